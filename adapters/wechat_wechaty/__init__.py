"""WeChat through a wechaty gateway, which holds the login and speaks gRPC. Knows no bot."""

"""A WeChat alt account over the web protocol, by the library itchat-uos. Knows nothing of bots."""

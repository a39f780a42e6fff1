// Every sentence that the page itself says. The bot's own sentences come from the server.

const STRINGS = {
  en: {
    school: "Night school", schoolRunning: "At night school", chat: "Chat", send: "Send",
    placeholder: "Write a message", offline: "connecting…", base: "base model",
    which: "Which reply do you like better?", pick: (n) => `Pick reply ${n}`, picked: "picked",
    bothBad: "Neither is good", tie: "Both are fine",
    good: "Good reply", bad: "Bad reply", correct: "Correct this", takeBack: "click again to take it back",
    recalled: (n) => n === 1 ? "1 memory used" : `${n} memories used`,
    better: "Better words", save: "Save", cancel: "Cancel", corrected: "You'd rather hear:",
    expired: "This choice has expired.", notSent: "Not sent.", retry: "Send again",
    failed: "That did not work. Try again in a moment.",
    start: "Start night school now", records: (n, min) => `${n} preferences collected; a night needs ${min}`,
    enough: (n) => `${n} preferences collected`, model: "Model", lastNight: "Last night", loras: "LoRAs",
    noLoras: "None yet: the first appears after a night.", close: "Close",
    platforms: "Platforms", scan: "Scan to log in", wantsCode: "The login wants the digits on your phone: send /code DIGITS",
    health: { starting: "starting", login: "needs a login", online: "online", offline: "offline" },
    night: (n) => `Night ${n}`, left: (s) => s < 90 ? `about ${Math.max(1, Math.round(s))} s left` : `about ${Math.round(s / 60)} min left`,
    started: "Night school has begun.", swapped: (v) => `Now answering with LoRA ${v}`, unswapped: "Now answering with the base model",
    token: "This bot asks for its access token", login: "Log in", wrongToken: "That is not the token.",
    persona: "Who speaks",
    you: "You said", bot: "Reply", states: { active: "active", published: "published", challenger: "challenger", refused: "refused", retired: "retired" },
  },
  zh: {
    school: "夜校", schoolRunning: "夜校上课中", chat: "对话", send: "发送",
    placeholder: "说点什么", offline: "正在连接…", base: "基础模型",
    which: "哪个回答更好？", pick: (n) => `选第 ${n} 个`, picked: "已选",
    bothBad: "都不好", tie: "都行",
    good: "回答得好", bad: "回答得不好", correct: "改一改", takeBack: "再点一次撤回",
    recalled: (n) => `用到 ${n} 条记忆`,
    better: "更好的说法", save: "保存", cancel: "取消", corrected: "你更想听到：",
    expired: "这次选择已过期。", notSent: "没有发出去。", retry: "重新发送",
    failed: "没有成功，请稍后再试。",
    start: "现在就上夜校", records: (n, min) => `已收集 ${n} 条偏好，满 ${min} 条才能上夜校`,
    enough: (n) => `已收集 ${n} 条偏好`, model: "模型", lastNight: "上一晚", loras: "LoRA 版本",
    noLoras: "还没有：上过一次夜校就会有。", close: "关闭",
    platforms: "平台", scan: "扫码登录", wantsCode: "登录需要手机上显示的数字：发送 /code 数字",
    health: { starting: "启动中", login: "需要登录", online: "在线", offline: "离线" },
    night: (n) => `第 ${n} 晚`, left: (s) => s < 90 ? `大约还要 ${Math.max(1, Math.round(s))} 秒` : `大约还要 ${Math.round(s / 60)} 分钟`,
    started: "夜校开始了。", swapped: (v) => `现在由 LoRA ${v} 回答`, unswapped: "现在由基础模型回答",
    token: "请输入这个机器人的访问令牌", login: "进入", wrongToken: "令牌不对。",
    persona: "由谁说话",
    you: "你说", bot: "回答", states: { active: "使用中", published: "已发布", challenger: "挑战者", refused: "未通过", retired: "已退役" },
  },
};

export const language = /^zh/i.test(navigator.language) ? "zh" : "en";
export const t = STRINGS[language];

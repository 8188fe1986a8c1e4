// Why a live connection ended, in words: by its close code, the code in its reason, and the limit that was named before.

const LATER = "What comes meanwhile is fetched from the last cursor.";
const BY_NAME = {
  draining: "The server is being restarted.",
  lifetime: "The server asks its subscribers to connect again now and then.",
  topic_changed: "The topic was changed.",
  ping_timeout: "The line was dead.",
  slow: "This page did not keep up with the topic.",
  taken_over: "Another connection has taken this subscription over.",
  topic_retired: "The topic has been retired.",
  unknown_topic: "The topic is gone, or a draft again.",
  unknown_subscription: "The durable subscription was deleted.",
  insufficient_scope: "The session may no longer read this topic.",
};
const BY_CODE = {
  4400: "The server could not make sense of what was asked for.",
  4401: "The session has ended or was revoked.",
  4403: "The session may no longer read this topic.",
  4404: "The topic is gone.",
  4408: "The session was not shown in time.",
};

// The end of a connection: `again` is false where coming back would end the same way.
export function closeWords({ code, name, limit, retryMs }, now = new Date()) {
  if ([4400, 4403, 4404].includes(code)) return { again: false, text: `${BY_NAME[name] || BY_CODE[code]} (${said(code, name)})` };
  if (code === 4409 && name === "taken_over") return { again: false, text: `${BY_NAME[name]} (${said(code, name)})` };
  const when = retryMs ? ` It goes on ${inWords(retryMs, now)}.` : " Trying again.";
  if (code === 4429) {
    const what = name === "quota_exceeded" ? `${limit ? `The plan's limit ${limit}` : "A limit of the plan"} is used up.` : "The server has too many connections or subscribers now.";
    return { again: true, text: `${what}${when} ${LATER}` };
  }
  if (code === 4503) return { again: true, text: `Something behind the server is away (${name || code}).${when} ${LATER}` };
  return { again: true, text: `${BY_NAME[name] || BY_CODE[code] || "Connection lost."}${when} ${LATER}` };
}

// "in 4 s", "in 12 min", "at 00:03 (in 5.2 h)".
export function inWords(ms, now = new Date()) {
  if (ms < 60_000) return `in ${Math.max(1, Math.round(ms / 1000))} s`;
  if (ms < 3_600_000) return `in ${Math.round(ms / 60_000)} min`;
  const at = new Date(now.getTime() + ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  return `at ${at} (in ${(ms / 3_600_000).toFixed(1)} h)`;
}

const said = (code, name) => (name ? `${code} ${name}` : `${code}`);

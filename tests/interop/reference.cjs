// Signs or verifies with npm's standardwebhooks, as it is told on stdin, and answers on stdout.
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

const asked = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const body = Buffer.from(asked.body, "base64");
const webhook = new Webhook(asked.secret);
let answer;
if (asked.headers === undefined) {
  answer = { signature: webhook.sign(asked.id, new Date(asked.seconds * 1000), body) };
} else {
  try {
    webhook.verify(body, asked.headers);
    answer = {};
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    answer = { refused: error.message };
  }
}
process.stdout.write(JSON.stringify(answer));

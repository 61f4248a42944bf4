// Calls a gateway with OpenAI's own client and prints, as JSON, what came of it; what it should be is the test's to say.

import { argv } from "node:process";

import OpenAI from "openai";

const [baseURL, model, crowdedModel] = argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const messages = [{ role: "user", content: "The quick brown fox" }];
const short = { model, messages, temperature: 0, max_tokens: 24 };
// Goes on long enough for something to happen meanwhile.
const long = { messages, temperature: 0, max_tokens: 1500, ignore_eos: true };

async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return ids;
}

async function chat() {
  const answer = await client.chat.completions.create(short);
  return { text: answer.choices[0].message.content, reason: answer.choices[0].finish_reason, usage: answer.usage };
}

async function streamed() {
  let text = "";
  let chunks = 0;
  let reason;
  const stream = await client.chat.completions.create({ ...short, stream: true });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    reason = chunk.choices[0]?.finish_reason ?? reason;
    chunks += 1;
  }
  return { text, reason, chunks };
}

async function helperStreamed() {
  const runner = client.chat.completions.stream(short);
  return { text: await runner.finalContent() };
}

/** Leaves a stream after its first pieces of text, as `break` does. */
async function left() {
  const stream = await client.chat.completions.create({ ...long, model, stream: true });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 3) break;
  }
  return { chunks, aborted: stream.controller.signal.aborted };
}

/** Aborts a whole answer while it is being made. */
async function aborted() {
  const controller = new AbortController();
  const answer = client.chat.completions.create({ ...long, model }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 50);
  return failure(answer);
}

/** Fills a model that runs one at a time and lets one wait: of two more requests, one is refused. */
async function crowded() {
  const controller = new AbortController();
  const options = { signal: controller.signal };
  const running = await client.chat.completions.create({ ...long, model: crowdedModel, stream: true }, options);
  const reading = running[Symbol.asyncIterator]();
  await reading.next();
  const more = () => failure(client.chat.completions.create({ ...long, model: crowdedModel }, options));
  const waiting = [more(), more()];
  const refused = await Promise.race(waiting);
  controller.abort();
  return { refused, others: (await Promise.all(waiting)).map(({ kind }) => kind) };
}

/** Says how a call failed: by which of the client's classes, and with what in it. */
async function failure(call) {
  try {
    await call;
  } catch (error) {
    const kind = Object.keys(OpenAI).filter((name) => OpenAI[name] === error.constructor)[0];
    return { kind, status: error.status, code: error.code, type: error.type, param: error.param, message: error.message };
  }
  return { kind: "none" };
}

console.log(
  JSON.stringify({
    models: await models(),
    chat: await chat(),
    streamed: await streamed(),
    helperStreamed: await helperStreamed(),
    left: await left(),
    aborted: await aborted(),
    missing: await failure(client.chat.completions.create({ ...short, model: "no-such-model" })),
    missingModel: await failure(client.models.retrieve("no-such-model")),
    bad: await failure(client.chat.completions.create({ ...short, temperature: 99 })),
    crowded: await crowded(),
  }),
);

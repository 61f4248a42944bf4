// Deploys a model on a Kindling cluster, streams a generation, cancels one, and shows a typed error.

import { randomUUID } from "node:crypto";
import { argv, env, exit, stdout } from "node:process";

import { credentials, status, type ServiceError } from "@grpc/grpc-js";

import { ErrorInfo } from "../gen/google/rpc/error_details.js";
import { Status } from "../gen/google/rpc/status.js";
import { CompleteRequest, GenerationServiceClient, type CompleteResponse } from "../gen/kindling/v1/generation.js";
import { FinishReason, SamplingParams } from "../gen/kindling/v1/inference.js";
import { DeployModelRequest, ModelServiceClient, type DeployModelResponse, type Model } from "../gen/kindling/v1/model.js";

const DEFAULT_ADDRESS = "127.0.0.1:8081";
const DEPLOY_MILLISECONDS = 10 * 60_000;
const PROMPT = "The quick brown fox";

/** Packs `source` into the cluster and returns once the model can be called. */
async function deploy(models: ModelServiceClient, source: string, name: string): Promise<Model> {
  const request = DeployModelRequest.fromPartial({ requestId: randomUUID(), name, sourceUri: source });
  const deadline = Date.now() + DEPLOY_MILLISECONDS;
  const events: AsyncIterable<DeployModelResponse> = models.deployModel(request, { deadline });
  for await (const { event } of events) {
    if (event?.$case === "deployed") return event.value;
  }
  throw new Error("the deployment ended without its result");
}

/** Asks for up to `maxTokens` tokens, always the likeliest one. */
function request(model: string, maxTokens: number): CompleteRequest {
  return CompleteRequest.fromPartial({
    model,
    input: { $case: "prompt", value: PROMPT },
    sampling: SamplingParams.fromPartial({ temperature: 0, maxTokens, ignoreEos: true }),
  });
}

/** Prints an answer as it comes. */
async function stream(generations: GenerationServiceClient, model: string): Promise<void> {
  const tokens: number[] = [];
  let reason = FinishReason.FINISH_REASON_UNSPECIFIED;
  const events: AsyncIterable<CompleteResponse> = generations.complete(request(model, 32));
  for await (const { event } of events) {
    if (event?.$case === "delta") {
      stdout.write(event.value.text);
      tokens.push(...event.value.tokenIds);
    } else if (event?.$case === "choiceFinished") {
      reason = event.value.reason;
    }
  }
  console.log(`\ntokens: ${tokens.join(" ")}\nfinished: ${reason}`);
}

/** Cancels a generation after its first tokens; that frees its place in the model at once. */
async function cancelMidway(generations: GenerationServiceClient, model: string): Promise<void> {
  const call = generations.complete(request(model, 1500));
  let received = 0;
  try {
    for await (const { event } of call as AsyncIterable<CompleteResponse>) {
      if (event?.$case === "delta") received += event.value.tokenIds.length;
      if (received >= 5) call.cancel();
    }
  } catch (error) {
    if (!isServiceError(error) || error.code !== status.CANCELLED) throw error;
    console.log(`cancelled: ${status[error.code]} after ${received} tokens`);
    return;
  }
  throw new Error("the generation should have been cancelled, but ended by itself");
}

/** Shows what an error of Kindling's carries. */
async function callMissingModel(generations: GenerationServiceClient): Promise<void> {
  try {
    for await (const _ of generations.complete(request("no-such-model", 1)));
  } catch (error) {
    console.log(`refused: ${describe(error)}`);
    return;
  }
  throw new Error("a model that does not exist answered");
}

/** Says what went wrong, with the ErrorInfo that every error of Kindling's has: programs match on its reason. */
function describe(error: unknown): string {
  if (!isServiceError(error)) return String(error);
  const info = errorInfo(error);
  const typed = info && ` reason=${info.reason} domain=${info.domain} metadata=${JSON.stringify(info.metadata)}`;
  return `${status[error.code]}${typed ?? ""}: ${error.details}`;
}

function errorInfo(error: ServiceError): ErrorInfo | undefined {
  const [encoded] = error.metadata.get("grpc-status-details-bin");
  if (!(encoded instanceof Buffer)) return undefined;
  const detail = Status.decode(encoded).details.find(({ typeUrl }) => typeUrl.endsWith("/google.rpc.ErrorInfo"));
  return detail && ErrorInfo.decode(detail.value);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

async function main(source: string, name: string): Promise<void> {
  const address = env.KINDLING_ADDRESS ?? DEFAULT_ADDRESS;
  const models = new ModelServiceClient(address, credentials.createInsecure());
  const generations = new GenerationServiceClient(address, credentials.createInsecure());
  try {
    const { checkpoint } = await deploy(models, source, name);
    console.log(`deployed: ${name}, ${checkpoint?.architecture} of ${checkpoint?.parameterCount} parameters`);
    await stream(generations, name);
    await cancelMidway(generations, name);
    await callMissingModel(generations);
  } finally {
    models.close();
    generations.close();
  }
}

const [source, name] = argv.slice(2);
if (source === undefined || name === undefined) {
  console.error(`usage: example SOURCE MODEL; the gateway's address is $KINDLING_ADDRESS, else ${DEFAULT_ADDRESS}`);
  exit(2);
}
main(source, name).catch((error: unknown) => {
  console.error(`error: ${describe(error)}`);
  exit(1);
});

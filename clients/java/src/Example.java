import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import kindling.v1.CompleteRequest;
import kindling.v1.CompleteResponse;
import kindling.v1.DeployModelRequest;
import kindling.v1.FinishReason;
import kindling.v1.GenerationServiceGrpc;
import kindling.v1.GenerationServiceGrpc.GenerationServiceBlockingStub;
import kindling.v1.Model;
import kindling.v1.ModelServiceGrpc;
import kindling.v1.ModelServiceGrpc.ModelServiceBlockingStub;
import kindling.v1.SamplingParams;

/** Deploys a model on a Kindling cluster, streams a generation, cancels one, and shows a typed error. */
public final class Example {
  private static final String DEFAULT_ADDRESS = "127.0.0.1:8081";
  private static final String PROMPT = "The quick brown fox";
  private static final long DEPLOY_MINUTES = 10;

  private final ModelServiceBlockingStub models;
  private final GenerationServiceBlockingStub generations;

  private Example(ManagedChannel channel) {
    models = ModelServiceGrpc.newBlockingStub(channel);
    generations = GenerationServiceGrpc.newBlockingStub(channel);
  }

  public static void main(String[] args) throws InterruptedException {
    if (args.length != 2) {
      System.err.println(
          "usage: Example SOURCE MODEL; the gateway's address is $KINDLING_ADDRESS, else " + DEFAULT_ADDRESS);
      System.exit(2);
    }
    String address = Optional.ofNullable(System.getenv("KINDLING_ADDRESS")).orElse(DEFAULT_ADDRESS);
    ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    try {
      new Example(channel).run(args[0], args[1]);
    } catch (StatusRuntimeException error) {
      System.err.println("error: " + describe(error));
      System.exit(1);
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void run(String source, String name) {
    Model model = deploy(source, name);
    System.out.printf(
        "deployed: %s, %s of %d parameters%n",
        model.getName(), model.getCheckpoint().getArchitecture(), model.getCheckpoint().getParameterCount());
    stream(name);
    cancelMidway(name);
    callMissingModel();
  }

  /** Packs the source into the cluster and returns once the model can be called. */
  private Model deploy(String source, String name) {
    DeployModelRequest request =
        DeployModelRequest.newBuilder()
            .setRequestId(UUID.randomUUID().toString())
            .setName(name)
            .setSourceUri(source)
            .build();
    Model[] deployed = {Model.getDefaultInstance()};
    models
        .withDeadlineAfter(DEPLOY_MINUTES, TimeUnit.MINUTES)
        .deployModel(request)
        .forEachRemaining(event -> deployed[0] = event.getDeployed());
    return deployed[0]; // the last event's
  }

  /** Prints an answer as it comes. */
  private void stream(String model) {
    List<String> tokens = new ArrayList<>();
    FinishReason reason = FinishReason.FINISH_REASON_UNSPECIFIED;
    for (CompleteResponse event : (Iterable<CompleteResponse>) () -> generations.complete(request(model, 32))) {
      System.out.print(event.getDelta().getText());
      System.out.flush();
      event.getDelta().getTokenIdsList().forEach(token -> tokens.add(token.toString()));
      if (event.hasChoiceFinished()) {
        reason = event.getChoiceFinished().getReason();
      }
    }
    System.out.printf("%ntokens: %s%nfinished: %s%n", String.join(" ", tokens), reason);
  }

  /** Cancels a generation after its first tokens; that frees its place in the model at once. */
  private void cancelMidway(String model) {
    int[] received = {0};
    try (Context.CancellableContext call = Context.current().withCancellation()) {
      call.run(
          () ->
              generations
                  .complete(request(model, 1500))
                  .forEachRemaining(
                      event -> {
                        received[0] += event.getDelta().getTokenIdsCount();
                        if (received[0] >= 5) {
                          call.cancel(null);
                        }
                      }));
      throw new IllegalStateException("the generation should have been cancelled, but ended by itself");
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() != Status.Code.CANCELLED) {
        throw error;
      }
      System.out.printf("cancelled: %s after %d tokens%n", error.getStatus().getCode(), received[0]);
    }
  }

  /** Shows what an error of Kindling's carries. */
  private void callMissingModel() {
    try {
      generations.complete(request("no-such-model", 1)).hasNext();
    } catch (StatusRuntimeException error) {
      System.out.println("refused: " + describe(error));
      return;
    }
    throw new IllegalStateException("a model that does not exist answered");
  }

  /** Asks for up to maxTokens tokens, always the likeliest one. */
  private static CompleteRequest request(String model, int maxTokens) {
    return CompleteRequest.newBuilder()
        .setModel(model)
        .setPrompt(PROMPT)
        .setSampling(SamplingParams.newBuilder().setTemperature(0).setMaxTokens(maxTokens).setIgnoreEos(true))
        .build();
  }

  /** Says what went wrong, with the ErrorInfo that every error of Kindling's has: programs match on its reason. */
  private static String describe(StatusRuntimeException error) {
    return errorInfo(error)
        .map(
            info ->
                String.format(
                    "%s reason=%s domain=%s metadata=%s: %s",
                    error.getStatus().getCode(),
                    info.getReason(),
                    info.getDomain(),
                    info.getMetadataMap(),
                    error.getStatus().getDescription()))
        .orElse(error.getMessage());
  }

  private static Optional<ErrorInfo> errorInfo(StatusRuntimeException error) {
    return StatusProto.fromThrowable(error).getDetailsList().stream()
        .filter(detail -> detail.is(ErrorInfo.class))
        .findFirst()
        .map(
            detail -> {
              try {
                return detail.unpack(ErrorInfo.class);
              } catch (InvalidProtocolBufferException broken) {
                throw new IllegalStateException(broken);
              }
            });
  }
}

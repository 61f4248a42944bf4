// Command example deploys a model on a Kindling cluster, streams a generation, cancels one, and shows a typed error.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kindling "kindling/clients/go/gen/kindlingv1"
)

const (
	defaultAddress = "127.0.0.1:8081"
	deployTimeout  = 10 * time.Minute
	prompt         = "The quick brown fox"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: example SOURCE MODEL; the gateway's address is $KINDLING_ADDRESS, else " + defaultAddress)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		log.Fatal(describe(err))
	}
}

func run(ctx context.Context, source, model string) error {
	// Newer versions of grpc-go spell it grpc.WithTransportCredentials(insecure.NewCredentials()).
	conn, err := grpc.Dial(address(), grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := deploy(ctx, kindling.NewModelServiceClient(conn), source, model); err != nil {
		return err
	}
	generations := kindling.NewGenerationServiceClient(conn)
	if err := stream(ctx, generations, model); err != nil {
		return err
	}
	if err := cancelMidway(ctx, generations, model); err != nil {
		return err
	}
	return callMissingModel(ctx, generations)
}

// deploy packs source into the cluster and returns once the model can be called.
func deploy(ctx context.Context, models kindling.ModelServiceClient, source, name string) error {
	ctx, cancel := context.WithTimeout(ctx, deployTimeout)
	defer cancel()
	events, err := models.DeployModel(ctx, &kindling.DeployModelRequest{
		RequestId: newRequestID(), Name: name, SourceUri: source,
	})
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if deployed := event.GetDeployed(); deployed != nil {
			checkpoint := deployed.Checkpoint
			fmt.Printf("deployed: %s, %s of %d parameters\n", deployed.Name, checkpoint.Architecture, checkpoint.ParameterCount)
		}
	}
}

// stream prints an answer as it comes.
func stream(ctx context.Context, client kindling.GenerationServiceClient, model string) error {
	var tokens []uint32
	var reason kindling.FinishReason
	err := complete(ctx, client, request(model, 32), func(event *kindling.CompleteResponse) {
		switch event := event.Event.(type) {
		case *kindling.CompleteResponse_Delta:
			fmt.Print(event.Delta.Text)
			tokens = append(tokens, event.Delta.TokenIds...)
		case *kindling.CompleteResponse_ChoiceFinished:
			reason = event.ChoiceFinished.Reason
		}
	})
	fmt.Printf("\ntokens: %s\nfinished: %s\n", strings.Trim(fmt.Sprint(tokens), "[]"), reason)
	return err
}

// cancelMidway cancels a generation after its first tokens; that frees its place in the model at once.
func cancelMidway(ctx context.Context, client kindling.GenerationServiceClient, model string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	received := 0
	err := complete(ctx, client, request(model, 1500), func(event *kindling.CompleteResponse) {
		received += len(event.GetDelta().GetTokenIds())
		if received >= 5 {
			cancel()
		}
	})
	if status.Code(err) != codes.Canceled {
		return fmt.Errorf("the generation should have been cancelled, but ended with: %w", err)
	}
	fmt.Printf("cancelled: %s after %d tokens\n", codeName(err), received)
	return nil
}

// callMissingModel shows what an error of Kindling's carries.
func callMissingModel(ctx context.Context, client kindling.GenerationServiceClient) error {
	err := complete(ctx, client, request("no-such-model", 1), func(*kindling.CompleteResponse) {})
	if err == nil {
		return errors.New("a model that does not exist answered")
	}
	fmt.Printf("refused: %s\n", describe(err))
	return nil
}

// complete runs one generation and calls handle with each of its events.
func complete(
	ctx context.Context,
	client kindling.GenerationServiceClient,
	request *kindling.CompleteRequest,
	handle func(*kindling.CompleteResponse),
) error {
	events, err := client.Complete(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		handle(event)
	}
}

// request asks for up to maxTokens tokens, always the likeliest one.
func request(model string, maxTokens uint32) *kindling.CompleteRequest {
	return &kindling.CompleteRequest{
		Model:    model,
		Input:    &kindling.CompleteRequest_Prompt{Prompt: prompt},
		Sampling: &kindling.SamplingParams{Temperature: 0, MaxTokens: maxTokens, IgnoreEos: true},
	}
}

// describe says what went wrong, with the ErrorInfo that every error of Kindling's has: programs match on its reason.
func describe(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return fmt.Sprintf("%s reason=%s domain=%s metadata=%v: %s",
				codeName(err), info.Reason, info.Domain, info.Metadata, status.Convert(err).Message())
		}
	}
	return err.Error()
}

func codeName(err error) string {
	return code.Code(status.Code(err)).String()
}

func newRequestID() string {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", id)
}

func address() string {
	if address := os.Getenv("KINDLING_ADDRESS"); address != "" {
		return address
	}
	return defaultAddress
}

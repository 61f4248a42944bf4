// Deploys a model on a Kindling cluster, streams a generation, cancels one, and shows a typed error.

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <google/rpc/code.pb.h>
#include <google/rpc/error_details.pb.h>
#include <google/rpc/status.pb.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/error_details.h>

#include "kindling/v1/generation.grpc.pb.h"
#include "kindling/v1/model.grpc.pb.h"

namespace {

namespace v1 = kindling::v1;
using namespace std::chrono_literals;

constexpr auto kDeployTimeout = 10min;
constexpr auto kDefaultAddress = "127.0.0.1:8081";
constexpr auto kPrompt = "The quick brown fox";

std::string code_name(const grpc::Status& status) {
  return google::rpc::Code_Name(static_cast<google::rpc::Code>(status.error_code()));
}

// Says what went wrong, with the ErrorInfo that every error of Kindling's has: programs match on its reason.
std::string describe(const grpc::Status& status) {
  google::rpc::Status details;
  google::rpc::ErrorInfo info;
  std::ostringstream text;
  text << code_name(status);
  if (grpc::ExtractErrorDetails(status, &details).ok()) {
    for (const auto& detail : details.details()) {
      if (!detail.UnpackTo(&info)) continue;
      text << " reason=" << info.reason() << " domain=" << info.domain() << " metadata:";
      for (const auto& [key, value] : info.metadata()) text << ' ' << key << '=' << value;
    }
  }
  text << ": " << status.error_message();
  return text.str();
}

class CallFailed : public std::runtime_error {
 public:
  explicit CallFailed(const grpc::Status& status) : std::runtime_error(describe(status)) {}
};

std::string new_request_id() {
  std::random_device random;
  std::ostringstream id;
  for (int word = 0; word < 4; ++word) id << std::hex << random();
  return id.str();
}

// Packs `source` into the cluster and returns once the model can be called.
v1::Model deploy(v1::ModelService::Stub& models, const std::string& source, const std::string& name) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeployTimeout);
  v1::DeployModelRequest request;
  request.set_request_id(new_request_id());
  request.set_name(name);
  request.set_source_uri(source);

  v1::Model deployed;
  v1::DeployModelResponse event;
  const auto events = models.DeployModel(&context, request);
  while (events->Read(&event)) {
    if (event.has_deployed()) deployed = event.deployed();
  }
  if (const auto status = events->Finish(); !status.ok()) throw CallFailed(status);
  return deployed;
}

// Asks for up to `max_tokens` tokens, always the likeliest one.
v1::CompleteRequest request_for(const std::string& model, std::uint32_t max_tokens) {
  v1::CompleteRequest request;
  request.set_model(model);
  request.set_prompt(kPrompt);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  request.mutable_sampling()->set_ignore_eos(true);
  return request;
}

// Runs one generation, calls `handle` with each of its events, and returns how it ended. `handle` may cancel `context`.
grpc::Status complete(v1::GenerationService::Stub& generations, grpc::ClientContext& context,
                      const v1::CompleteRequest& request,
                      const std::function<void(const v1::CompleteResponse&)>& handle) {
  v1::CompleteResponse event;
  const auto events = generations.Complete(&context, request);
  while (events->Read(&event)) handle(event);
  return events->Finish();
}

// Prints an answer as it comes.
void stream(v1::GenerationService::Stub& generations, const std::string& model) {
  std::vector<std::uint32_t> tokens;
  auto reason = v1::FINISH_REASON_UNSPECIFIED;
  grpc::ClientContext context;
  const auto status = complete(generations, context, request_for(model, 32), [&](const auto& event) {
    std::cout << event.delta().text() << std::flush;
    tokens.insert(tokens.end(), event.delta().token_ids().begin(), event.delta().token_ids().end());
    if (event.has_choice_finished()) reason = event.choice_finished().reason();
  });
  if (!status.ok()) throw CallFailed(status);
  std::cout << "\ntokens:";
  for (const auto token : tokens) std::cout << ' ' << token;
  std::cout << "\nfinished: " << v1::FinishReason_Name(reason) << '\n';
}

// Cancels a generation after its first tokens; that frees its place in the model at once.
void cancel_midway(v1::GenerationService::Stub& generations, const std::string& model) {
  int received = 0;
  grpc::ClientContext context;
  const auto status = complete(generations, context, request_for(model, 1500), [&](const auto& event) {
    received += event.delta().token_ids_size();
    if (received >= 5) context.TryCancel();
  });
  if (status.error_code() != grpc::StatusCode::CANCELLED) {
    throw std::runtime_error("the generation should have been cancelled, but ended with: " + describe(status));
  }
  std::cout << "cancelled: " << code_name(status) << " after " << received << " tokens\n";
}

// Shows what an error of Kindling's carries.
void call_missing_model(v1::GenerationService::Stub& generations) {
  grpc::ClientContext context;
  const auto status = complete(generations, context, request_for("no-such-model", 1), [](const auto&) {});
  if (status.ok()) throw std::runtime_error("a model that does not exist answered");
  std::cout << "refused: " << describe(status) << '\n';
}

void run(const std::string& source, const std::string& name) {
  const char* address = std::getenv("KINDLING_ADDRESS");
  const auto channel =
      grpc::CreateChannel(address != nullptr ? address : kDefaultAddress, grpc::InsecureChannelCredentials());
  const auto models = v1::ModelService::NewStub(channel);
  const auto generations = v1::GenerationService::NewStub(channel);

  const auto deployed = deploy(*models, source, name);
  std::cout << "deployed: " << deployed.name() << ", " << deployed.checkpoint().architecture() << " of "
            << deployed.checkpoint().parameter_count() << " parameters\n";
  stream(*generations, name);
  cancel_midway(*generations, name);
  call_missing_model(*generations);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example SOURCE MODEL; the gateway's address is $KINDLING_ADDRESS, else " << kDefaultAddress
              << '\n';
    return 2;
  }
  try {
    run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}

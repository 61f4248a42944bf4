"""What every service stands on: settings, logs, telemetry, errors, processes, gRPC, etcd. Knows no word of LLMs."""

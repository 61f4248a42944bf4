# rotel, another OpenTelemetry collector: it takes OTLP and writes a line for each batch that it got.
FROM python:3.11-slim
RUN python3 -m venv /opt/rotel && /opt/rotel/bin/pip install --no-cache-dir rotel==0.0.1a15
ENV PATH=/opt/rotel/lib/python3.11/site-packages/rotel:$PATH
CMD ["rotel-agent", "start", "--otlp-grpc-endpoint", "0.0.0.0:4317", "--exporter", "blackhole", "--debug-log", "traces"]

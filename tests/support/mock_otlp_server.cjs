// Receives OTLP with @elastic/mockotlpserver: says where it listens, writes each span as one line of JSON to the file
// that it is given, and ends on SIGTERM. The library's own way of writing a trace fails at an empty list.
const fs = require('node:fs');
const [library, file] = process.argv.slice(2);
const {MockOtlpServer} = require(library);

function spansOf(request) {
    return request.resourceSpans.flatMap(({resource, scopeSpans}) => {
        const service = resource.attributes.find(({key}) => key === 'service.name').value.stringValue;
        return scopeSpans.flatMap(({spans}) => spans.map((span) => ({service, ...idsOf(span), name: span.name})));
    });
}

function idsOf({traceId, spanId, parentSpanId}) {
    const hex = (id) => Buffer.from(id ?? []).toString('hex');
    return {trace_id: hex(traceId), span_id: hex(spanId), parent_id: hex(parentSpanId)};
}

const server = new MockOtlpServer({
    services: ['grpc'],
    grpcHostname: '127.0.0.1',
    grpcPort: 0,
    logLevel: 'warn',
    onTrace: (request) => fs.appendFileSync(file, spansOf(request).map((span) => JSON.stringify(span) + '\n').join('')),
});
process.on('SIGTERM', () => process.exit(0));
server.start().then(() => console.log(server.grpcUrl.origin));

// A gRPC server for the tests. Prints its address once it serves; ends with its input.
const grpc = require('@grpc/grpc-js');
const { nobody, ...service } = require('./service.js');

const trailer = (name, value) => {
  const metadata = new grpc.Metadata();
  metadata.set(name, value);
  return metadata;
};

const server = new grpc.Server();
server.addService(service, {
  ask(call, callback) {
    const asked = call.request.toString();
    if (asked === 'fail') return callback({ code: grpc.status.FAILED_PRECONDITION, details: '잔액 부족: 100%', metadata: trailer('x-why', 'balance') });
    if (asked === 'deadline') return;
    if (asked === 'headers') return callback(null, Buffer.from(JSON.stringify(call.metadata.getMap())), trailer('x-last', 'word'));
    callback(null, call.request, trailer('x-last', 'word'));
  },
  watch(call) {
    const [count, size] = call.request.toString().split(' ').map(Number);
    for (let i = 0; i < count; i += 1) call.write(Buffer.alloc(size, i));
    // Whoever asks for none is kept waiting.
    if (count > 0) call.end(trailer('x-last', 'word'));
    else call.sendMetadata(new grpc.Metadata());
  },
  collect(call, callback) {
    let bytes = 0;
    call.on('data', (piece) => { bytes += piece.length; });
    call.on('end', () => callback(null, Buffer.from(String(bytes)), trailer('x-last', 'word')));
  },
  talk(call) {
    call.on('data', (piece) => call.write(piece));
    call.on('end', () => call.end(trailer('x-last', 'word')));
    call.on('error', () => {});
  },
});
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`127.0.0.1:${port}`);
});
process.stdin.on('end', () => process.exit()).resume();

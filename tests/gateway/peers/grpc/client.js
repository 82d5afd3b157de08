// A gRPC client, for the tests: makes the call that it is told to, and prints as JSON what came of it.
const fs = require('fs');
const grpc = require('@grpc/grpc-js');
const service = require('./service.js');

const [, , what, address, authorities, argument, token] = process.argv;
const Client = grpc.makeGenericClientConstructor(service, 'Teller');
const credentials = authorities === '-' ? grpc.credentials.createInsecure() : grpc.credentials.createSsl(fs.readFileSync(authorities));
const client = new Client(address, credentials, {
  'grpc.ssl_target_name_override': 'gate.example',
  'grpc.default_authority': 'gate.example',
});
const metadata = new grpc.Metadata();
if (token) metadata.set('authorization', `Bearer ${token}`);
if (process.env.AT) metadata.set('gwanmun-at', process.env.AT);

const told = {};
const print = () => { console.log(JSON.stringify(told)); process.exit(); };
const ended = (status) => {
  Object.assign(told, { code: status.code, details: status.details, trailers: status.metadata.getMap() });
  print();
};
const unary = (call) => (error, value) => {
  if (value) told.got = value.toString();
  // The status, with its trailers, comes of itself.
};

const cases = {
  ask() { client.ask(Buffer.from(argument), metadata, unary()).on('status', ended); },
  nobody() { client.nobody(Buffer.from('x'), metadata, unary()).on('status', ended); },
  deadline() { client.ask(Buffer.from('deadline'), metadata, { deadline: Date.now() + 300 }, unary()).on('status', ended); },
  watch() {
    const call = client.watch(Buffer.from(argument), metadata);
    let bytes = 0;
    let pieces = 0;
    call.on('metadata', () => console.log('open'));
    call.on('data', (piece) => { bytes += piece.length; pieces += 1; Object.assign(told, { bytes, pieces }); });
    call.on('error', () => {});
    call.on('status', ended);
  },
  collect() {
    const call = client.collect(metadata, unary());
    call.on('status', ended);
    const [count, size] = argument.split(' ').map(Number);
    for (let i = 0; i < count; i += 1) call.write(Buffer.alloc(size, i));
    call.end();
  },
  // Says the next word only when the last one came back: nothing may be held on the way.
  talk() {
    const call = client.talk(metadata);
    told.said = 0;
    call.write(Buffer.from('0'));
    call.on('data', (piece) => {
      told.said += 1;
      told.said < Number(argument) ? call.write(Buffer.from(String(told.said))) : call.end();
    });
    call.on('error', () => {});
    call.on('status', ended);
  },
};
cases[what]();

// A WebSocket server that sends everything back, for the tests. Prints its address once it serves; ends with its input.
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: true });
server.on('connection', (socket, request) => {
  if (request.url === '/greeted') socket.send('hello');
  if (request.url === '/closing') socket.close(4001, 'enough');
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('error', () => {});
});
server.on('listening', () => console.log(`127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();

// A WebSocket client, for the tests: does what it is named, and prints as JSON what came of it.
const WebSocket = require('ws');

const [, , what, url] = process.argv;
const print = (told) => { console.log(JSON.stringify(told)); process.exit(); };
const open = (options) => {
  const socket = new WebSocket(url, ['chat', 'other'], options);
  socket.on('error', (error) => print({ error: error.message }));
  return socket;
};

const cases = {
  // Texts, bytes, fragments and pings, each answered.
  talk() {
    const socket = open({ perMessageDeflate: process.argv[4] === 'deflate' });
    const got = [];
    const take = (what) => {
      got.push(what);
      if (got.length === 4) socket.close(1000, 'done');
    };
    socket.on('open', () => {
      socket.send('송금');
      socket.send(Buffer.alloc(200000, 7));
      socket.send('frag', { fin: false });
      socket.send('ments', { fin: true });
      socket.ping('still there?');
    });
    socket.on('message', (data, isBinary) => take(isBinary ? data.length : data.toString()));
    socket.on('pong', (data) => take(`pong ${data}`));
    socket.on('close', (code, reason) => print({ got: got.sort(), code, reason: reason.toString(), protocol: socket.protocol, extensions: socket.extensions }));
  },
  // A greeting right behind the handshake, many times over.
  greeted() {
    let left = 100;
    const next = () => {
      const socket = open({});
      socket.on('message', (data) => {
        if (data.toString() !== 'hello') print({ odd: data.toString() });
        socket.close();
      });
      socket.on('close', (code) => {
        if (code !== 1005) print({ code });
        left -= 1;
        left > 0 ? next() : print({ greeted: 100 });
      });
    };
    next();
  },
  // Large messages, sent while others come back.
  large() {
    const socket = open({ perMessageDeflate: false, maxPayload: 64 << 20 });
    let back = 0;
    socket.on('open', () => { for (let i = 0; i < 5; i += 1) socket.send(Buffer.alloc(8 << 20, i)); });
    socket.on('message', (data) => {
      if (data.length !== 8 << 20 || data[12345] !== back) print({ odd: back });
      back += 1;
      if (back === 5) print({ back });
    });
  },
  // Waits to be closed.
  wait() {
    const socket = open({});
    socket.on('open', () => console.log('open'));
    socket.on('close', (code, reason) => print({ code, reason: reason.toString() }));
  },
  // What a refused handshake is told.
  refused() {
    const socket = new WebSocket(url, { origin: 'https://evil.example' });
    socket.on('unexpected-response', (_, answer) => print({ status: answer.statusCode }));
    socket.on('open', () => print({ opened: true }));
  },
};
cases[what]();

// A REST server over a few rows of JSON, for the tests. Prints its address once it serves; ends with its input.
const jsonServer = require('json-server');

const rows = {
  customers: [{ id: 'u1', name: 'Kim', account: 'a1' }],
  transfers: [
    { id: 1, account: 'a1', amount: 10.5 },
    { id: 2, account: 'a2', amount: 20 },
    { id: 3, account: 'a1', amount: 30 },
  ],
  quotes: [{ id: 1, price: 7 }, { id: 3, price: 9 }],
};

const app = jsonServer.create();
app.use(jsonServer.defaults({ logger: false, noCors: true }));
app.use(jsonServer.router(rows));
const server = app.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));
process.stdin.on('end', () => process.exit()).resume();

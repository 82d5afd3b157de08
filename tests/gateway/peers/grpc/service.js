// The one service of the tests: bytes in, bytes out.
const bytes = (value) => value;
const method = (name, requestStream, responseStream) => ({
  path: `/bank.Teller/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
module.exports = {
  ask: method('Ask', false, false),
  watch: method('Watch', false, true),
  collect: method('Collect', true, false),
  talk: method('Talk', true, true),
  nobody: method('Nobody', false, false),
};

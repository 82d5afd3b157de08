// A certified OpenID provider for the tests: access tokens as JWTs of several algorithms, or opaque ones with introspection.
// Prints its address once it serves. Keys are made at start; a line on stdin withdraws all of them and makes new ones.
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const ALGORITHMS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

let generation = 0;
const key = ([alg, [kind, options]]) => {
  // Read again from PEM: Node's collector waits for ever for a key that it generated and that is being exported.
  const privateKeyEncoding = { type: 'pkcs8', format: 'pem' };
  const { privateKey } = generateKeyPairSync(kind, { ...options, privateKeyEncoding });
  const jwk = createPrivateKey(privateKey).export({ format: 'jwk' });
  return { ...jwk, alg, use: 'sig', kid: `${alg}-${generation}` };
};

// `urn:jwt:RS256` is a resource whose tokens are JWTs signed with RS256, `urn:opaque` one whose tokens say nothing.
const resource = (indicator) => {
  const alg = indicator.match(/^urn:jwt:(\w+)$/)?.[1];
  const format = alg ? { accessTokenFormat: 'jwt', jwt: { sign: { alg } } } : { accessTokenFormat: 'opaque' };
  return { audience: 'mobile-bank', scope: 'transfer:read transfer:write', accessTokenTTL: 3600, ...format };
};

const provider = (issuer) => {
  generation += 1;
  return new Provider(issuer, {
    jwks: { keys: Object.entries(ALGORITHMS).map(key) },
    clients: [
      {
        client_id: 'robot',
        client_secret: 'robot-secret-of-the-tests',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
    ],
    scopes: ['transfer:read', 'transfer:write'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, indicator) => resource(indicator),
      },
    },
  });
};

let serve;
const server = createServer((request, response) => serve(request, response));
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  serve = provider(issuer).callback();
  console.log(issuer);
  createInterface({ input: process.stdin })
    .on('line', () => {
      serve = provider(issuer).callback();
      console.log(issuer);
    })
    // The test is gone.
    .on('close', () => process.exit(0));
});

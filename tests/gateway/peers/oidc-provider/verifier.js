// A service behind the gate, as others would write it: believes a passport by the `jose` library and the keys that the gate
// tells. Each line on stdin is a token with what to expect of it; each line on stdout is what it says, or why it is refused.
import { createInterface } from 'node:readline';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const verify = async ({ token, keys, issuer, audience, now }) => {
  const { protectedHeader, payload } = await jwtVerify(token, createRemoteJWKSet(new URL(keys)), {
    issuer,
    audience,
    typ: 'passport+jwt',
    algorithms: ['EdDSA', 'ES256'],
    requiredClaims: ['exp', 'iat', 'jti', 'sub', 'authenticator'],
    currentDate: new Date(now),
  });
  return { header: protectedHeader, claims: payload };
};

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await verify(JSON.parse(line)).catch((error) => ({ refused: error.code ?? String(error) }));
  console.log(JSON.stringify(answer));
}

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from 'jose';

/** An issuer of tokens as the real ones work: keys, and a server that publishes them. */
export interface Issuer {
  readonly url: string;
  readonly issuer: string;
  /** The public key in PEM, for the classic mistake of taking it for a shared secret. */
  readonly publicPem: string;
  readonly requests: number;
  /** What the key set answers from now on: the keys, an error, nothing (hangs up), or nonsense. */
  behave(how: 'well' | 'error' | 'hang-up' | 'nonsense'): void;
  sign(claims?: JWTPayload, options?: SignOptions): Promise<string>;
  close(): Promise<void>;
}

export interface SignOptions {
  /** Sign with a key of the same id that is not published. */
  foreignKey?: boolean;
  kid?: string;
  algorithm?: 'ES256' | 'RS256';
}

export const AUDIENCE = 'authenticated';

export async function startIssuer(): Promise<Issuer> {
  const ec = await generateKeyPair('ES256', { extractable: true });
  const rsa = await generateKeyPair('RS256', { extractable: true });
  const foreign = await generateKeyPair('ES256');
  const keys = [
    { ...(await exportJWK(ec.publicKey)), kid: 'ec-1', alg: 'ES256', use: 'sig' },
    { ...(await exportJWK(rsa.publicKey)), kid: 'rsa-1', alg: 'RS256', use: 'sig' },
  ];
  let behaviour: Parameters<Issuer['behave']>[0] = 'well';
  let requests = 0;
  const server: Server = createServer((request, response) => {
    requests += 1;
    if (behaviour === 'hang-up') request.socket.destroy();
    else if (behaviour === 'error') response.writeHead(500).end();
    else if (behaviour === 'nonsense') response.end('<html>');
    else response.end(JSON.stringify({ keys }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const issuer = `http://127.0.0.1:${port}/auth/v1`;
  return {
    url: `${issuer}/.well-known/jwks.json`,
    issuer,
    publicPem: await exportSPKI(ec.publicKey),
    get requests() {
      return requests;
    },
    behave(how) {
      behaviour = how;
    },
    sign(claims = {}, { foreignKey = false, algorithm = 'ES256', kid } = {}) {
      const now = Math.floor(Date.now() / 1000);
      const full = { iss: issuer, aud: AUDIENCE, sub: 'u1', iat: now, exp: now + 600, ...claims };
      const defined = Object.fromEntries(
        Object.entries(full).filter(([, value]) => value !== undefined),
      );
      const signingKey = algorithm === 'RS256' ? rsa.privateKey : ec.privateKey;
      return new SignJWT(defined)
        .setProtectedHeader({
          alg: algorithm,
          kid: kid ?? (algorithm === 'RS256' ? 'rsa-1' : 'ec-1'),
        })
        .sign(foreignKey ? foreign.privateKey : signingKey);
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

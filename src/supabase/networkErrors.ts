/** Codes Node and its HTTP client give to failures of the way to a server. */

/** No connection came about, so nothing was sent. */
const NOT_CONNECTED = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EAI_AGAIN',
  'ENOTFOUND',
  'UND_ERR_CONNECT_TIMEOUT',
]);
/** A connection broke: what was sent may have arrived. */
const DISCONNECTED = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED']);

export function isNotConnected(code: string): boolean {
  return NOT_CONNECTED.has(code);
}

export function isNetworkCode(code: string): boolean {
  return NOT_CONNECTED.has(code) || DISCONNECTED.has(code);
}

/** The other side could not prove who it is; that fails before anything is sent. */
export function isTlsFailure(code: string): boolean {
  return /^(ERR_TLS_|ERR_SSL_|CERT_|SELF_SIGNED_|DEPTH_ZERO_|UNABLE_TO_)/.test(code);
}

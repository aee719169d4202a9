/**
 * Plays Vercel's part for tests: serves the function as the platform calls it, and freezes the
 * process as soon as every request is answered and what was handed to waitUntil has ended. What
 * was not handed over stays undone until somebody sends SIGCONT.
 *
 * Arguments: the entry file, then any of `freeze` and `helpers`. Says its port on stdout.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [entry, ...options] = process.argv.slice(2);
const requests = new AsyncLocalStorage();
globalThis[Symbol.for('@vercel/request-context')] = { get: () => requests.getStore() };
const { default: handler } = await import(pathToFileURL(entry).href);

let open = 0;

async function serve(request, response) {
  const pending = new Set();
  const context = { waitUntil: (work) => pending.add(work) };
  open += 1;
  const answered = new Promise((resolve) => response.once('close', resolve));
  if (options.includes('helpers')) addHelpers(request, response);
  requests.run(context, () => handler(request, response));
  await answered;
  // What is waited for may hand over more.
  for (const work of pending) await work;
  open -= 1;
  if (open === 0 && options.includes('freeze')) process.kill(process.pid, 'SIGSTOP');
}

/** Own properties on each request, in the way of Express'. */
function addHelpers(request, response) {
  const lazy = (name, value) =>
    Object.defineProperty(request, name, {
      configurable: true,
      enumerable: true,
      get: () => value,
    });
  lazy('query', { from: 'helper' });
  lazy('cookies', {});
  lazy('body', { from: 'helper' });
  for (const name of ['status', 'redirect', 'send', 'json']) {
    response[name] = () => {
      throw new Error(`the helper ${name} was called`);
    };
  }
}

const server = createServer(serve);
server.listen(0, '127.0.0.1', () => process.stdout.write(`port ${server.address().port}\n`));

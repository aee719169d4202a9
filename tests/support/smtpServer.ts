/** A mail server for tests: real SMTP over a real socket, with the ways in which others fail. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

export type SmtpBehaviour =
  | 'accepts'
  /** Takes the mail, and hangs up before it says so. */
  | 'acceptsSilently'
  /** Answers nothing at all, not even a greeting. */
  | 'hangs'
  /** Takes everything up to the end of the mail, and never answers that. */
  | 'hangsAfterData'
  /** Sends a byte now and then, so that no silence is long. */
  | 'drips'
  /** No such mailbox. */
  | 'refusesAddress'
  /** Try again later. */
  | 'refusesForNow';

export interface ReceivedMail {
  from: string;
  to: string[];
  /** Header lines and body, as they came. */
  source: string;
  /** A header's value, unfolded. */
  header(name: string): string | null;
}

export interface SmtpServer {
  url: string;
  mails: ReceivedMail[];
  /** Lines clients sent, of all connections. */
  commands: string[];
  behaviour: SmtpBehaviour;
  stop(): Promise<void>;
}

const DRIP_MS = 50;

export async function startSmtpServer(behaviour: SmtpBehaviour = 'accepts'): Promise<SmtpServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    serve(smtp, socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const smtp: SmtpServer = {
    url: `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mails: [],
    commands: [],
    behaviour,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
  return smtp;
}

function serve(smtp: SmtpServer, socket: Socket): void {
  const { behaviour } = smtp;
  const say = (line: string) => socket.write(`${line}\r\n`);
  let from = '';
  let to: string[] = [];
  let data: string | null = null;
  let rest = '';
  if (behaviour === 'hangs') return;
  if (behaviour === 'drips') {
    const timer = setInterval(() => socket.write('220-still here\r\n'), DRIP_MS);
    socket.on('close', () => clearInterval(timer));
    return;
  }
  say('220 mail.test ESMTP');
  socket.on('data', (chunk) => {
    rest += chunk.toString('utf8');
    for (let end = rest.indexOf('\r\n'); end >= 0; end = rest.indexOf('\r\n')) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 2);
      if (data === null) command(line);
      else if (line === '.') finish();
      else data += `${line.startsWith('..') ? line.slice(1) : line}\r\n`;
    }
  });

  function command(line: string): void {
    smtp.commands.push(line);
    const verb = line.split(/[ :]/)[0]?.toUpperCase();
    if (verb === 'EHLO' || verb === 'HELO') say('250-mail.test\r\n250 AUTH PLAIN');
    else if (verb === 'STARTTLS') say('502 no such command');
    else if (verb === 'AUTH') say('235 welcome');
    else if (verb === 'MAIL') {
      if (behaviour === 'refusesForNow') return void say('451 4.3.0 try again later');
      from = addressIn(line);
      say('250 ok');
    } else if (verb === 'RCPT') {
      if (behaviour === 'refusesAddress') return void say('550 5.1.1 no such mailbox');
      to.push(addressIn(line));
      say('250 ok');
    } else if (verb === 'DATA') {
      data = '';
      say('354 go on');
    } else if (verb === 'QUIT') {
      say('221 bye');
      socket.end();
    } else say('250 ok');
  }

  function finish(): void {
    if (behaviour === 'hangsAfterData') return;
    smtp.mails.push(received(from, to, data ?? ''));
    data = null;
    to = [];
    if (behaviour === 'acceptsSilently') socket.destroy();
    else say('250 2.0.0 queued');
  }
}

function addressIn(line: string): string {
  return /<([^>]*)>/.exec(line)?.[1] ?? '';
}

function received(from: string, to: string[], source: string): ReceivedMail {
  const [head = ''] = source.split('\r\n\r\n');
  const lines = head.replaceAll(/\r\n[ \t]+/g, ' ').split('\r\n');
  return {
    from,
    to,
    source,
    header(name) {
      const line = lines.find((each) => each.toLowerCase().startsWith(`${name.toLowerCase()}:`));
      return line === undefined ? null : line.slice(name.length + 1).trim();
    },
  };
}

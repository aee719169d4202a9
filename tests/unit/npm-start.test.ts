import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

const SERVER = `
process.on('SIGTERM', () => setTimeout(() => { console.log('drained'); process.exit(0); }, 50));
setInterval(() => {}, 1000);
console.log('listening');
`;

let project: string;

beforeAll(() => {
  project = mkdtempSync(join(tmpdir(), 'purser-start-'));
  const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
  const { start } = scripts;
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'x', scripts: { start } }));
  mkdirSync(join(project, 'dist'));
  writeFileSync(join(project, 'dist/index.js'), SERVER);
});

afterAll(() => rmSync(project, { recursive: true, force: true }));

describe('npm start', () => {
  // npm runs scripts through a shell that dies of SIGTERM without passing it on, and the server
  // would live on as an orphan with the port and the database: `exec` takes the shell away.
  it('hands SIGTERM to the server and exits with its code', async () => {
    const npm = spawn('npm', ['start'], { cwd: project });
    let output = '';
    npm.stdout.on('data', (chunk) => {
      output += chunk;
      if (/^listening$/m.test(output)) npm.kill('SIGTERM');
    });
    const code = await new Promise((done) => npm.on('close', done));
    expect(output).toMatch(/^drained$/m);
    expect(code).toBe(0);
  });
});

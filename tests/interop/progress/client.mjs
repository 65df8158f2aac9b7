// A host on the TypeScript SDK: calls a tool that reports five updates, and counts the callbacks it gets.
//
// node client.mjs LINE MODE CALLS stdio COMMAND [ARGUMENT...]
// node client.mjs LINE MODE CALLS unix PATH
//
// LINE is v1 or v2; MODE is legacy or auto, and counts for v2 only. Prints one line of JSON.

import net from 'node:net';
import process from 'node:process';

const [line, mode, calls, kind, ...target] = process.argv.slice(2);
const UPDATES = 5;

// Neither line has a transport for Unix sockets: this one reads and writes as their own for stdio do.
class UnixTransport {
    constructor(path, stdio) {
        this.path = path;
        this.serialize = stdio.serializeMessage;
        this.buffer = new stdio.ReadBuffer();
    }

    start() {
        return new Promise((resolve, reject) => {
            this.socket = net.connect(this.path, resolve);
            this.socket.on('error', reject);
            this.socket.on('close', () => this.onclose?.());
            this.socket.on('data', chunk => {
                this.buffer.append(chunk);
                for (let message; (message = this.buffer.readMessage()) !== null; ) {
                    this.onmessage?.(message);
                }
            });
        });
    }

    async send(message) {
        this.socket.write(this.serialize(message));
    }

    async close() {
        this.socket.end();
    }
}

async function load() {
    if (line === 'v1') {
        const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
        const stdio = await import('@modelcontextprotocol/sdk/client/stdio.js');
        const shared = await import('@modelcontextprotocol/sdk/shared/stdio.js');
        return { client: new Client({ name: 'counter', version: '1' }), StdioClientTransport: stdio.StdioClientTransport, shared };
    }
    const sdk = await import('@modelcontextprotocol/client');
    const stdio = await import('@modelcontextprotocol/client/stdio');
    const options = mode === 'auto' ? { versionNegotiation: { mode: 'auto' } } : {};
    const client = new sdk.Client({ name: 'counter', version: '1' }, options);
    return { client, StdioClientTransport: stdio.StdioClientTransport, shared: sdk };
}

const { client, StdioClientTransport, shared } = await load();
let errors = 0;
client.onerror = () => {
    errors += 1;
};
const transport =
    kind === 'unix'
        ? new UnixTransport(target[0], shared)
        : new StdioClientTransport({ command: target[0], args: target.slice(1), env: process.env });
await client.connect(transport);
let delivered = 0;
let disordered = 0;
const milliseconds = [];
// How long the calls took of which something was lost.
const losses = [];
for (let call = 0; call < Number(calls); call += 1) {
    let last = 0;
    const began = performance.now();
    const options = {
        onprogress: update => {
            delivered += 1;
            disordered += update.progress > last ? 0 : 1;
            last = update.progress;
        }
    };
    // The first line takes the result's schema between the two.
    await client.callTool(...[{ name: 'steps', arguments: { updates: UPDATES } }, ...(line === 'v1' ? [undefined] : []), options]);
    const took = performance.now() - began;
    milliseconds.push(took);
    if (last < UPDATES) {
        losses.push(Math.round(took * 10) / 10);
    }
}
await client.close();
milliseconds.sort((one, other) => one - other);
const at = share => milliseconds[Math.min(milliseconds.length - 1, Math.floor(milliseconds.length * share))];
console.log(JSON.stringify({ delivered, disordered, errors, expected: calls * UPDATES, p50: at(0.5), p99: at(0.99), losses }));
process.exit(0);

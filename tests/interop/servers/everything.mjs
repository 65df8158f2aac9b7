// The package server-everything over Streamable HTTP at a free port, which it prints: the package itself does not say it.
import { Server } from 'node:net';

const listen = Server.prototype.listen;
Server.prototype.listen = function (...args) {
  this.once('listening', () => process.stdout.write(`http://127.0.0.1:${this.address().port}/mcp\n`));
  return listen.apply(this, args);
};
console.log = console.error;
process.env.PORT = '0';
await import('@modelcontextprotocol/server-everything/dist/transports/streamableHttp.js');

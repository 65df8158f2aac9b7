// The matrix's tools, prompts and resources on the TypeScript SDK v2's server: over stdio, or `typescript.mjs http` at a
// URL that it prints.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { NodeStreamableHTTPServerTransport, toNodeHandler, toWebRequest } from '@modelcontextprotocol/node';
import {
  McpServer,
  ResourceTemplate,
  acceptedContent,
  createMcpHandler,
  inputRequired,
  inputResponse,
  isLegacyRequest,
} from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

const NOTE = 'mem://note';
const PAUSE = 200; // milliseconds after an update: many a client loses one that shares a read with the answer
const states = new Map();
const text = (value) => ({ content: [{ type: 'text', text: value }] });
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function progress(ctx, progress, total, message) {
  const progressToken = ctx.mcpReq._meta?.progressToken;
  if (progressToken === undefined) return;
  const params = { progressToken, progress, message, ...(total === undefined ? {} : { total }) };
  await ctx.mcpReq.notify({ method: 'notifications/progress', params });
}

let notify; // tells all who listen, over HTTP in the newest revision

function make({ era }) {
  const modern = era === 'modern';
  const server = new McpServer(
    { name: 'typescript', version: '1' },
    { capabilities: { resources: { subscribe: true, listChanged: true } }, instructions: 'For the matrix.' },
  );
  const subscribed = new Set();

  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, async ({ text: said }) => text(said));

  server.registerTool('fail', {}, async () => {
    throw new Error('as asked');
  });

  server.registerTool('steps', { inputSchema: z.object({ count: z.number() }) }, async ({ count }, ctx) => {
    for (let step = 1; step <= count; step++) {
      await progress(ctx, step, count, `step ${step}`);
      await pause(PAUSE);
    }
    return text('done');
  });

  server.registerTool('wait', { inputSchema: z.object({ tag: z.string() }) }, async ({ tag }, ctx) => {
    states.set(tag, 'running');
    const aborted = new Promise((resolve) => ctx.mcpReq.signal.addEventListener('abort', resolve, { once: true }));
    await progress(ctx, 1, undefined, 'running');
    await aborted;
    states.set(tag, 'stopped');
    return text('never');
  });

  server.registerTool('state', { inputSchema: z.object({ tag: z.string() }) }, async ({ tag }) =>
    text(states.get(tag) ?? 'unknown'),
  );

  server.registerTool('greet', {}, async (ctx) => {
    const answer = inputResponse(ctx.mcpReq.inputResponses, 'name');
    if (answer.kind === 'elicit' && answer.action !== 'accept') return text(answer.action);
    const accepted = acceptedContent(ctx.mcpReq.inputResponses, 'name');
    if (accepted) return text(`Hello ${accepted.name}`);
    const requestedSchema = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] };
    return inputRequired({ inputRequests: { name: inputRequired.elicit({ message: 'Your name?', requestedSchema }) } });
  });

  server.registerTool('sample', {}, async (ctx) => {
    const answer = inputResponse(ctx.mcpReq.inputResponses, 'model');
    if (answer.kind === 'sampling') return text(`The model says ${answer.result.content.text}`);
    const messages = [{ role: 'user', content: { type: 'text', text: 'Two and two?' } }];
    return inputRequired({ inputRequests: { model: inputRequired.createMessage({ messages, maxTokens: 5 }) } });
  });

  server.registerTool('change', {}, async () => {
    if (modern && notify) {
      notify.toolsChanged();
      notify.resourceUpdated(NOTE);
    } else {
      await server.sendToolListChanged();
      await server.server.sendResourceUpdated({ uri: NOTE });
    }
    return text('changed');
  });

  server.registerPrompt('ask', { argsSchema: z.object({ topic: z.string() }) }, ({ topic }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `What about ${topic}?` } }],
  }));

  const read = (value) => async (uri) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: value }] });
  server.registerResource('note', NOTE, { mimeType: 'text/plain' }, read('a note'));
  server.registerResource(
    'item',
    new ResourceTemplate('mem://item/{key}', { list: undefined }),
    { mimeType: 'text/plain' },
    async (uri, { key }) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: `item ${key}` }] }),
  );

  // For clients of the revisions up to 2025-11-25; the SDK answers subscriptions/listen by itself.
  server.server.setRequestHandler('resources/subscribe', async ({ params }) => {
    subscribed.add(params.uri);
    return {};
  });
  return server;
}

// The SDK keeps sessions of the old revisions only for those who write down how.
async function serveHttp() {
  const handler = createMcpHandler(make, { legacy: 'reject' });
  notify = handler.notify;
  const modern = toNodeHandler(handler);
  const sessions = new Map();

  async function legacy(request, response, body) {
    const known = sessions.get(request.headers['mcp-session-id']);
    if (known) return known.handleRequest(request, response, body);
    if (request.headers['mcp-session-id']) return response.writeHead(404).end();
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    await make({ era: 'legacy' }).connect(transport);
    await transport.handleRequest(request, response, body);
  }

  async function answer(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = chunks.length ? JSON.parse(Buffer.concat(chunks).toString()) : undefined;
    const old = await isLegacyRequest(await toWebRequest(request, body), body);
    await (old ? legacy : modern)(request, response, body);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
}

if (process.argv[2] === 'http') await serveHttp();
else serveStdio(make);

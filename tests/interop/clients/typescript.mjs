// Clients on the TypeScript SDKs: `typescript.mjs v1|v2-auto|v2-legacy PLANS COMMAND...`, or a URL. The cases are those of cases.py.
import { randomUUID } from 'node:crypto';
import * as v1 from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as V1Http } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as schemas from '@modelcontextprotocol/sdk/types.js';
import * as v2 from '@modelcontextprotocol/client';
import { StdioClientTransport as V2Transport } from '@modelcontextprotocol/client/stdio';

const SECONDS = 20;
const SHORT = 500; // milliseconds after which the client of the case `timeout` gives up
const [mode, plansText, command, ...args] = process.argv.slice(2);
const plans = JSON.parse(plansText);
const isV1 = mode === 'v1';

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// ---- what the two SDKs name differently ----

const capabilities = { elicitation: {}, sampling: {} };
const client = isV1
  ? new v1.Client({ name: 'v1', version: '1' }, { capabilities })
  : new v2.Client({ name: 'v2', version: '1' }, { capabilities, versionNegotiation: { mode: mode.slice(3) } });

const handle = (method, schema, handler) => client.setRequestHandler(isV1 ? schema : method, handler);
const observe = (method, schema, handler) => client.setNotificationHandler(isV1 ? schema : method, handler);
const callTool = (params, options) => (isV1 ? client.callTool(params, undefined, options) : client.callTool(params, options));

// ---- what the server asks, and what it tells ----

let action = 'accept';
let asked = [];
let heard = [];

handle('elicitation/create', schemas.ElicitRequestSchema, async ({ params }) => {
  asked.push({ message: params.message, fields: Object.keys(params.requestedSchema.properties).sort() });
  return action === 'accept' ? { action, content: { name: 'Ada' } } : { action };
});
handle('sampling/createMessage', schemas.CreateMessageRequestSchema, async ({ params }) => {
  asked.push({ message: params.messages[0].content.text, maxTokens: params.maxTokens });
  return { role: 'assistant', content: { type: 'text', text: 'four' }, model: 'abacus' };
});
observe('notifications/tools/list_changed', schemas.ToolListChangedNotificationSchema, () => void heard.push('tools'));
observe('notifications/resources/updated', schemas.ResourceUpdatedNotificationSchema, ({ params }) => void heard.push(params.uri));

// ---- what was seen ----

// SDK v1 says the code in the message, too.
const refusal = (error) => ({
  error: error.code ?? error.name,
  message: error.message.replace(/^MCP error -?\d+: /, ''),
});

async function seen(verb) {
  try {
    return await verb;
  } catch (error) {
    return refusal(error);
  }
}

function byName(page, kind, key) {
  if (page[kind]) page[kind] = Object.fromEntries(page[kind].map(({ [key]: name, ...item }) => [name, item]));
  return page;
}

const call = ([name, given], options) => callTool({ name, arguments: given }, options);
const text = (result) => result.content[0].text;

function tagged([name, given]) {
  const tag = randomUUID();
  return [tag, [name, Object.fromEntries(Object.entries(given).map(([key, value]) => [key, value === 'TAG' ? tag : value]))]];
}

async function afterwards(plan, tag) {
  const found = {};
  if (plan.state) {
    const until = Date.now() + 5000;
    while ((found.handler = text(await call([plan.state, { tag }]))) !== 'stopped' && Date.now() < until) await pause(50);
  }
  found.next = text(await call(plan.next));
  return found;
}

// ---- the cases ----

const cases = {
  async opening() {
    return {
      version,
      server: client.getServerVersion(),
      capabilities: client.getServerCapabilities(),
      instructions: Boolean(client.getInstructions()),
    };
  },

  async tools(plan) {
    return {
      list: byName(await seen(client.listTools()), 'tools', 'name'),
      call: await seen(call(plan.call)),
      fail: await seen(call(plan.fail)),
      invalid: await seen(call(plan.invalid)),
      unknown: await seen(call(['no-such-tool', {}])),
    };
  },

  async progress(plan) {
    const updates = [];
    const onprogress = ({ progress, total, message }) => updates.push([progress, total ?? null, message ?? null]);
    const result = await seen(call(plan.call, { onprogress }));
    return { updates: updates.slice(0, plan.sure), result };
  },

  async bulk(plan) {
    const texts = Array.from({ length: plan.calls }, (_, number) => `${number} é\u2028\u{1f600}`);
    const results = await Promise.all(texts.map((text) => call(['echo', { text }])));
    const sizes = [];
    for (const bytes of plan.sizes) sizes.push(Buffer.byteLength(text(await call(['big', { bytes }]))));
    return { echoed: results.every((result, number) => text(result) === texts[number]), sizes };
  },

  async abort(plan) {
    const [tag, tool] = tagged(plan.call);
    const controller = new AbortController();
    const ended = await seen(call(tool, { signal: controller.signal, onprogress: () => controller.abort('enough') }));
    return { ended, ...(await afterwards(plan, tag)) };
  },

  async timeout(plan) {
    const [tag, tool] = tagged(plan.call);
    const ended = await seen(call(tool, { timeout: SHORT }));
    return { ended, ...(await afterwards(plan, tag)) };
  },

  async elicitation(plan) {
    const found = {};
    for (action of ['accept', 'decline']) found[action] = await cases.sampling(plan);
    return found;
  },

  async sampling(plan) {
    asked = [];
    const result = await seen(call(plan.call));
    return { asked, result };
  },

  async listen(plan) {
    heard = [];
    const found = {};
    let subscription;
    try {
      if (client.getProtocolEra?.() === 'modern') {
        subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [plan.uri] });
        found.honored = subscription.honoredFilter;
      } else {
        found.honored = await seen(client.subscribeResource({ uri: plan.uri }));
      }
    } catch (error) {
      return { refused: refusal(error), heard: [] };
    }
    found.result = await seen(call(plan.call));
    const until = Date.now() + 3000;
    while (!plan.hears.every((one) => heard.includes(one)) && Date.now() < until) await pause(20);
    if (plan.again) await seen(call(plan.call));
    await subscription?.close();
    return { ...found, heard: plan.hears.filter((one) => heard.includes(one)).sort() };
  },

  async prompts(plan) {
    const [name, given] = plan.get;
    return {
      list: byName(await seen(client.listPrompts()), 'prompts', 'name'),
      get: await seen(client.getPrompt({ name, arguments: given })),
      invalid: await seen(client.getPrompt({ name, arguments: {} })),
      unknown: await seen(client.getPrompt({ name: 'no-such-prompt', arguments: {} })),
    };
  },

  async resources(plan) {
    const read = [];
    for (const uri of plan.read) read.push(await seen(client.readResource({ uri })));
    return {
      list: byName(await seen(client.listResources()), 'resources', 'uri'),
      templates: byName(await seen(client.listResourceTemplates()), 'resourceTemplates', 'uriTemplate'),
      read,
      unknown: await seen(client.readResource({ uri: 'mem://no-such' })),
    };
  },
};

function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const Transport = isV1 ? V1Transport : V2Transport;
const Http = isV1 ? V1Http : v2.StreamableHTTPClientTransport;
const isUrl = command.startsWith('http:');
const transport = isUrl ? new Http(new URL(command)) : new Transport({ command, args });
let version = null;
transport.setProtocolVersion = (negotiated) => (version = negotiated);
await client.connect(transport);
version = client.getNegotiatedProtocolVersion?.() ?? version;
for (const [name, plan] of Object.entries(plans)) {
  let found;
  try {
    found = await within(SECONDS, cases[name](plan));
  } catch (error) {
    found = { broken: `${error.name}: ${error.message}`.slice(0, 300) };
  }
  console.log(JSON.stringify({ case: name, seen: found }));
}
await client.close();

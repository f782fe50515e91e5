// /openapi.json and /docs: the HTTP interface, described from the schemas that validate it.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Hono } from 'hono'
import type { HttpEnv } from '../../shared/http.ts'
import { openapi } from './openapi.ts'

const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kiln</title><link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="page"></div><script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>`
const start = 'SwaggerUIBundle({ url: "/openapi.json", dom_id: "#page", deepLinking: true })'
const assets: Record<string, string> = { 'swagger-ui.css': 'text/css', 'swagger-ui-bundle.js': 'text/javascript' }

export function docsPages(app: Hono<HttpEnv>): void {
  const folder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
  app.get('/openapi.json', (c) => c.json(openapi()))
  app.get('/docs', (c) => c.html(page))
  app.get('/docs/start.js', (c) => c.body(start, 200, { 'content-type': 'text/javascript' }))
  for (const [name, type] of Object.entries(assets)) {
    app.get(`/docs/${name}`, async (c) => c.body(new Uint8Array(await readFile(join(folder, name))), 200, { 'content-type': type, 'cache-control': 'max-age=86400' }))
  }
}

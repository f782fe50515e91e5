// npm run draw: writes the lifecycle as it is into shared/README.md, where a test compares it.
import { readFile, writeFile } from 'node:fs/promises'
import { register } from 'tsx/esm/api'

register()
const { drawing } = await import('../shared/lifecycle.ts')
const readme = new URL('../shared/README.md', import.meta.url)
const text = await readFile(readme, 'utf8')
await writeFile(readme, text.replace(/```mermaid\nstateDiagram[\s\S]*?\n```/, `\`\`\`mermaid\n${drawing()}\n\`\`\``))

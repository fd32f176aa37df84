// Writes a CycloneDX bill of materials of a folder node_modules.
'use strict'
const fs = require('fs')
const path = require('path')

const components = new Map()

function visit (dir) {
  let entries
  try { entries = fs.readdirSync(dir, { withFileTypes: true }) } catch { return }
  for (const e of entries) {
    const at = path.join(dir, e.name)
    if (e.name.startsWith('@')) { visit(at); continue }
    if (e.name === '.pnpm') { for (const p of fs.readdirSync(at)) visit(path.join(at, p, 'node_modules')); continue }
    if (e.name.startsWith('.') || !e.isDirectory()) continue
    try {
      const p = JSON.parse(fs.readFileSync(path.join(at, 'package.json'), 'utf8'))
      if (p.name && p.version) {
        const purl = 'pkg:npm/' + p.name.replace('@', '%40') + '@' + encodeURIComponent(p.version)
        const c = { type: 'library', 'bom-ref': purl, name: p.name, version: p.version, purl }
        if (typeof p.license === 'string') c.licenses = [{ license: { name: p.license } }]
        components.set(purl, c)
      }
    } catch { /* a folder without a description is no module */ }
    visit(path.join(at, 'node_modules'))
  }
}

visit(process.argv[2])
const sorted = [...components.keys()].sort().map(k => components.get(k))
console.log(JSON.stringify({ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1, components: sorted }))

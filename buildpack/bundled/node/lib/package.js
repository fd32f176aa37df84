// Answers questions about package.json: check, build (whether there is such a script), start (the command as a list of TOML).
'use strict'
const fs = require('fs')

let text
let description
try {
  text = fs.readFileSync('package.json', 'utf8')
  description = JSON.parse(text)
} catch (err) {
  const at = /position (\d+)/.exec(err.message)
  const line = at ? ':' + text.slice(0, Number(at[1])).split('\n').length : ''
  console.error('package.json' + line + ': ' + err.message)
  process.exit(1)
}
if (typeof description !== 'object' || description === null || Array.isArray(description)) {
  console.error('package.json: expected an object')
  process.exit(1)
}
const scripts = description.scripts || {}

// list writes words as a TOML array.
function list (words) { return '[' + words.map(w => JSON.stringify(w)).join(', ') + ']' }

// command splits what needs no shell, and gives the rest to one.
function command (line) {
  if (/^[\w@%+=:,./ -]+$/.test(line) && !/^\s*\w+=/.test(line)) return list(line.trim().split(/ +/))
  return list(['bash', '-c', line])
}

function start () {
  if (process.env.BP_NODE_START) return command(process.env.BP_NODE_START)
  if (typeof scripts.start === 'string' && scripts.start.trim()) return command(scripts.start)
  for (const file of [description.main, 'server.js', 'app.js', 'index.js']) {
    if (typeof file === 'string' && (fs.existsSync(file) || fs.existsSync(file + '.js'))) return list(['node', file])
  }
  return ''
}

switch (process.argv[2]) {
  case 'build': console.log(typeof scripts.build === 'string' ? 'build' : ''); break
  case 'start': console.log(start()); break
}

'use strict'
const http = require('node:http')
const ms = require('ms')

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/plain; charset=utf-8')
  response.end(`Hello from Node.js, up for ${ms(Math.round(process.uptime() * 1000), { long: true })}\n`)
})
server.listen(process.env.PORT || 8080, () => console.log(`listening on ${server.address().port}`))
process.on('SIGTERM', () => server.close(() => process.exit(0)))

// WebTorrent, driven from the command line; what happens is told on stderr.
//
//     foreign.mjs MODULES SOURCE FOLDER PORT [--dht=IP:PORT,…] [--pex] [--lsd] [--slow]
//
// MODULES is the folder in which npm put it. It seeds, or downloads and then seeds, until stopped, over TCP and without
// encryption; slow is 1 KiB/s. WebRTC is left out: its native part is not installed, and nobody here speaks it.

import { registerHooks } from 'node:module'

const nothing = ['RTCPeerConnection', 'RTCSessionDescription', 'RTCIceCandidate'].map(
  name => `export const ${name} = undefined`
)
registerHooks({
  resolve (name, context, next) {
    if (name !== 'webrtc-polyfill') return next(name, context)
    return { url: `data:text/javascript,${nothing.join(';')}`, shortCircuit: true }
  }
})

const [modules, source, folder, port, ...flags] = process.argv.slice(2)
const { default: WebTorrent } = await import(`${modules}/webtorrent/index.js`)
const nodes = flags.find(flag => flag.startsWith('--dht='))
const limit = flags.includes('--slow') ? 1024 : -1
const client = new WebTorrent({
  torrentPort: Number(port),
  dhtPort: Number(port),
  dht: nodes ? { bootstrap: nodes.slice('--dht='.length).split(',') } : false,
  utPex: flags.includes('--pex'),
  lsd: flags.includes('--lsd'),
  downloadLimit: limit,
  uploadLimit: limit,
  secure: 0,
  utp: false,
  natUpnp: false,
  natPmp: false
})
client.on('error', error => {
  console.error(error)
  process.exit(1)
})
const torrent = client.add(source, { path: folder })
for (const event of ['metadata', 'ready', 'warning', 'noPeers', 'wire', 'done']) {
  torrent.on(event, what => console.error(event, event === 'wire' ? what.remoteAddress : String(what ?? '')))
}
process.on('SIGTERM', () => client.destroy(() => process.exit(0)))

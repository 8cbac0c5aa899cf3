// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// The npm package gearman as a peer; table.py describes what a peer does.

'use strict'

const fs = require('fs')
const gearman = require('gearman')

const [role, host, port, name, unique] = process.argv.slice(2)
const peer = gearman(host, Number(port))
const answer = { outcome: 'no answer', result: '', data: [], warnings: [], status: null, statuses: [] }
const plain = (value) => Buffer.from(value === undefined ? '' : value).toString('base64')

function finish(outcome, job) {
  answer.outcome = outcome
  if (job) answer.result = plain(job.payload ?? job.exception)
  process.stdout.write(JSON.stringify(answer), () => process.exit(0))
}

function work() {
  const names = ['echo', 'größe', 'unique', 'fail', 'raise', 'progress', 'slow']
  peer.on('NOOP', () => peer.grabUniqueJob())
  peer.on('JOB_ASSIGN_UNIQ', (job) => {
    const rest = () => peer.preSleep()
    const end = (data) => { peer.sendWorkComplete(job.handle, data); rest() }
    switch (job.func_name.slice(name.length + 1)) {
      case 'fail': peer.sendWorkFail(job.handle); return rest()
      case 'raise': peer.sendWorkException(job.handle, Buffer.from('raised by the peer')); return rest()
      case 'progress':
        peer.sendWorkStatus(job.handle, '1', '2')
        peer.sendWorkWarning(job.handle, Buffer.from('careful'))
        peer.sendWorkData(job.handle, Buffer.from('part \0\xff', 'latin1'))
        peer.sendWorkStatus(job.handle, '2', '2')
        return end(Buffer.from('end'))
      case 'slow': peer.sendWorkStatus(job.handle, '1', '2'); return setTimeout(() => end(Buffer.alloc(0)), 700)
      case 'unique': return end(Buffer.from(job.unique_id))
      default: return end(Buffer.from(job.payload))
    }
  })
  peer.connect(() => {
    names.forEach((each) => peer.addFunction(`${name}-${each}`))
    peer.preSleep()
  })
}

function submit() {
  peer.on('WORK_COMPLETE', (job) => finish('done', job))
  peer.on('WORK_FAIL', (job) => finish('failed', job))
  peer.on('WORK_EXCEPTION', (job) => finish('exception', job))
  peer.on('WORK_DATA', (job) => answer.data.push(plain(job.payload)))
  peer.on('WORK_WARNING', (job) => answer.warnings.push(plain(job.warning)))
  peer.on('WORK_STATUS', (job) => { answer.status = [Number(job.percent_num), Number(job.percent_den)] })
  peer.connect(() => peer.submitJob(name, fs.readFileSync(0), { unique_id: unique }))
}

function background() {
  let handle
  const ask = () => peer.getJobStatus(handle)
  peer.on('JOB_CREATED', (created) => { handle = created; ask() })
  peer.on('STATUS_RES', (status) => {
    const names = ['known', 'running', 'percent_done_num', 'percent_done_den']
    answer.statuses.push(names.map((each) => Number(status[each])))
    answer.statuses.at(-1)[0] && answer.statuses.length < 80 ? setTimeout(ask, 100) : finish('queued')
  })
  peer.connect(() => peer.submitJob(name, 'x', { background: true, unique_id: unique }))
}

peer.on('error', (error) => { process.stderr.write(`${error}\n`); process.exit(1) })
const run = { worker: work, client: submit, background }
run[role]()

// Copyright: Gearvisor contributors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// The npm package node-gearman as a peer; table.py describes what a peer does. It has no exceptions, warnings
// or status: the events of a job are data, end and error.

'use strict'

const fs = require('fs')
const Gearman = require('node-gearman')

const [role, host, port, name, unique] = process.argv.slice(2)
const peer = new Gearman(host, Number(port))
const answer = { outcome: 'no answer', result: '', data: [], warnings: [], status: null, statuses: null }

function finish(outcome) {
  answer.outcome = outcome
  process.stdout.write(JSON.stringify(answer), () => process.exit(0))
}

function work() {
  const functions = {
    echo: (data, job) => job.end(data),
    größe: (data, job) => job.end(data),
    fail: (data, job) => job.error(),
    progress: (data, job) => { job.write(Buffer.from('part \0\xff', 'latin1')); job.end('end') },
    slow: (data, job) => setTimeout(() => job.end(''), 700)
  }
  for (const each of Object.keys(functions)) peer.registerWorker(`${name}-${each}`, functions[each])
}

function submit() {
  const job = peer.submitJob(name, fs.readFileSync(0), unique)
  const parts = []
  job.on('data', (data) => parts.push(data))
  job.on('end', () => {
    // It does not distinguish a part of the result from data that was sent before.
    if (parts.length > 0) answer.result = parts.pop().toString('base64')
    answer.data = parts.map((part) => part.toString('base64'))
    finish('done')
  })
  job.on('error', () => finish('failed'))
}

function background() {
  const job = peer.submitJob(name, 'x', unique, { background: true })
  job.on('created', () => finish('queued'))
  setTimeout(() => finish('queued'), 1500)
}

const run = { worker: work, client: submit, background }
run[role]()

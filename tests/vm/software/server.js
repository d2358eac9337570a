'use strict';

// A small service with three holes: `/run` runs a command, `/read` reads a file and `/call` connects to an address, each
// named by the request. `/` computes long enough to be worth compiling, compresses on a thread of the pool, and keeps
// what it did in a file.

const { execFile } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const zlib = require('node:zlib');

const NOTES = '/var/lib/node-app/notes';

const pages = {
  '/': (_, answer) => {
    let sum = 0;
    for (let i = 0; i < 200000; i++) {
      sum = (sum * 31 + i) % 1000003;
    }
    const hash = crypto.createHash('sha256').update(String(sum)).digest('hex');
    zlib.gzip(hash.repeat(100), (error, packed) => {
      if (error) {
        return answer(`failed: ${error.message}`);
      }
      fs.appendFile(NOTES, `${hash}\n`, (error) => {
        answer(error ? `failed: ${error.message}` : `sum ${sum}, packed ${packed.length < hash.length * 100}`);
      });
    });
  },
  '/run': (command, answer) => {
    execFile('/bin/sh', ['-c', command], (error, stdout) => answer(error ? `failed: ${error.message}` : stdout));
  },
  '/read': (file, answer) => {
    fs.readFile(file, 'utf8', (error, text) => answer(error ? `failed: ${error.message}` : text));
  },
  '/call': (address, answer) => {
    const [host, port] = address.split(':');
    const socket = net.connect(Number(port), host, () => {
      answer(`connected to ${socket.remotePort}`);
      socket.destroy();
    });
    socket.on('error', (error) => answer(`failed: ${error.message}`));
  },
};

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const page = pages[url.pathname];
  const answer = (text) => response.end(text);
  try {
    page ? page(decodeURIComponent(url.search.slice(1)), answer) : answer('no such page');
  } catch (error) {
    // A program that the system refuses to start (EPERM) is thrown, not handed to the callback.
    answer(`failed: ${error.message}`);
  }
}).listen(8081, '127.0.0.1');

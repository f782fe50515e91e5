// @ts-check
// One file out of a release archive: tar.gz or zip, without any npm package.
import { basename } from 'node:path';
import { gunzipSync, inflateRawSync } from 'node:zlib';

/**
 * The bytes of the one file with this base name. The archive's SHA-256 is known to be right, so it is well-formed.
 * @param {Buffer} archive @param {string} name
 */
export function fileInTarGz(archive, name) {
  const tar = gunzipSync(archive);
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const path = textUntilNul(tar.subarray(at, at + 100));
    const size = Number.parseInt(textUntilNul(tar.subarray(at + 124, at + 136)), 8);
    const isFile = [0, 0x30].includes(tar[at + 156] ?? -1);
    if (isFile && basename(path) === name) return tar.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  throw new Error(`the archive holds no ${name}`);
}

/** @param {Buffer} bytes */
function textUntilNul(bytes) {
  return bytes.toString('latin1').replace(/\0.*$/s, '').trim();
}

/**
 * Likewise for a zip: from the end record through the central directory to the file.
 * @param {Buffer} archive @param {string} name
 */
export function fileInZip(archive, name) {
  const end = archive.lastIndexOf('PK\x05\x06', undefined, 'latin1');
  if (end < 0) throw new Error('the archive is no zip');
  let at = archive.readUInt32LE(end + 16);
  for (let left = archive.readUInt16LE(end + 10); left > 0; left--) {
    const [nameLength, extraLength, noteLength] = [28, 30, 32].map((offset) => archive.readUInt16LE(at + offset));
    const path = archive.toString('utf8', at + 46, at + 46 + (nameLength ?? 0));
    if (basename(path) === name) return zipEntryAt(archive, at);
    at += 46 + (nameLength ?? 0) + (extraLength ?? 0) + (noteLength ?? 0);
  }
  throw new Error(`the archive holds no ${name}`);
}

/** @param {Buffer} archive @param {number} at its record in the central directory */
function zipEntryAt(archive, at) {
  const isStored = archive.readUInt16LE(at + 10) === 0;
  const size = archive.readUInt32LE(at + 20);
  const local = archive.readUInt32LE(at + 42);
  const start = local + 30 + archive.readUInt16LE(local + 26) + archive.readUInt16LE(local + 28);
  const bytes = archive.subarray(start, start + size);
  return isStored ? bytes : inflateRawSync(bytes);
}

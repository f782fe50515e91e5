// Certificates: those of the authorities that this machine trusts, as one text, for a program that sees none of its files.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Where the distributions keep them. */
const bundles = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt', '/etc/ssl/ca-bundle.pem', '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem', '/etc/ssl/cert.pem']

/** Those that SSL_CERT_FILE and SSL_CERT_DIR of this environment name; else the system's. null: there are none. */
export async function trustedCertificates(env: Record<string, string>): Promise<string | null> {
  const named = [...(env['SSL_CERT_FILE'] ? [env['SSL_CERT_FILE']] : []), ...(await filesIn(env['SSL_CERT_DIR'] ?? ''))]
  if (named.length > 0) return together(await Promise.all(named.map(textOf)))
  for (const path of bundles) {
    const text = await textOf(path)
    if (text !== null) return text
  }
  return null
}

/** The folders are separated by colons. */
async function filesIn(folders: string): Promise<string[]> {
  const found = await Promise.all(folders.split(':').filter(Boolean).map(async (folder) => (await readdir(folder).catch(() => [])).map((name) => join(folder, name))))
  return found.flat()
}

function together(texts: Array<string | null>): string | null {
  const certificates = [...new Set(texts.flatMap((text) => text?.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []))]
  return certificates.length > 0 ? `${certificates.join('\n')}\n` : null
}

const textOf = (path: string): Promise<string | null> => readFile(path, 'utf8').catch(() => null)

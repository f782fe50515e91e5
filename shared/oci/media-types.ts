// The media types of images, in the two families that registries keep: that of OCI and the older one of Docker.

export const ociIndex = 'application/vnd.oci.image.index.v1+json'
export const ociManifest = 'application/vnd.oci.image.manifest.v1+json'
export const dockerIndex = 'application/vnd.docker.distribution.manifest.list.v2+json'
export const dockerManifest = 'application/vnd.docker.distribution.manifest.v2+json'

/** What kiln reads, and asks registries for. */
export const manifestTypes = [ociIndex, ociManifest, dockerIndex, dockerManifest]

export const isIndex = (type: string): boolean => type === ociIndex || type === dockerIndex
export const isManifest = (type: string): boolean => type === ociManifest || type === dockerManifest
export const isImageConfig = (type: string): boolean => type === 'application/vnd.oci.image.config.v1+json' || type === 'application/vnd.docker.container.image.v1+json'
/** Compressed in whatever way: it is never unpacked here. */
export const isLayer = (type: string): boolean => type.startsWith('application/vnd.oci.image.layer.') || type.startsWith('application/vnd.docker.image.rootfs.')
/** Whoever runs the image gets such a layer from its own `urls`; no registry needs to hold it. */
export const isForeignLayer = (type: string): boolean => type.startsWith('application/vnd.oci.image.layer.nondistributable.') || type.startsWith('application/vnd.docker.image.rootfs.foreign.')

/** A gzipped layer in the family of a manifest. */
export const gzippedLayerFor = (manifest: string): string =>
  manifest === dockerManifest ? 'application/vnd.docker.image.rootfs.diff.tar.gzip' : 'application/vnd.oci.image.layer.v1.tar+gzip'

// One zip, three ways to an image: a layer on the base image, a layer on an environment, one kaniko for all of it. File by file they are the same.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { imageBuilders, type ImageBuilder, type Packaged } from '../shared/builds.ts'
import { buildWith, quiet } from './contract/builds.ts'
import { buildsStand, type OnCluster } from './stand/builds-on-cluster.ts'
import { imageContent, type ImageContent } from './stand/image-content.ts'

const stand = await buildsStand()
const test = suite<{ on: OnCluster }>('the same image, whoever makes it')
test.before.each(async (context) => { context.on = await stand.make() })
test.after.each(({ on }) => on.close())
test.after(() => stand.close())

async function madeBy(on: OnCluster, packaged: Packaged, builder: ImageBuilder): Promise<ImageContent> {
  const build = buildWith(packaged, undefined, builder)
  const end = await on.builds.run(build, quiet)
  if (!end.built) throw new Error(`${builder}: ${JSON.stringify(end)}`)
  return imageContent(end.image.reference)
}

const code = {
  'lambda_main.py': 'async def main(request):\n    return {}\n', 'deep/er/data.json': '{}', 'empty.txt': '', 'ü n ï.txt': 'a name', [`${'long/'.repeat(30)}name.txt`]: 'a long name',
}
/** A package that needs no index: it makes itself. */
const ownPackage = {
  'own/pyproject.toml': '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "own"\nversion = "1.0"\n',
  'own/backend.py': `import os, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "own-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("own.py", "answer = 42\\n")
        wheel.writestr("own-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n")
        wheel.writestr("own-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("own-1.0.dist-info/RECORD", "own.py,,\\nown-1.0.dist-info/METADATA,,\\nown-1.0.dist-info/WHEEL,,\\nown-1.0.dist-info/RECORD,,\\n")
    return name
`,
}

const cases: Array<{ what: string; files: Record<string, string>; commands: string[]; environment: boolean }> = [
  { what: 'code alone', files: code, commands: [], environment: false },
  { what: 'commands', files: code, commands: ['ENV COLOUR=blue PYTHONUNBUFFERED=0', 'WORKDIR /elsewhere', 'RUN echo made > made.txt', 'EXPOSE 9000', 'CMD ["never"]', 'LABEL of=the-user'], environment: true },
  { what: 'another user', files: code, commands: ['USER 65534'], environment: true },
  { what: 'requirements that need nothing of the archive', files: { ...code, 'requirements.txt': '# nothing\n' }, commands: ['ENV PIP_BREAK_SYSTEM_PACKAGES=1'], environment: true },
  { what: 'requirements that lie in the archive', files: { ...code, ...ownPackage, 'requirements.txt': './own\n' }, commands: ['ENV PIP_BREAK_SYSTEM_PACKAGES=1'], environment: true },
  { what: 'a command that copies a file of the archive', files: code, commands: ['COPY lambda/deep/er/data.json /data.json'], environment: true },
]
for (const { what, files, commands, environment } of cases) {
  test(what, async ({ on }) => {
    const packaged = await on.context(files, commands)
    assert.is(packaged.foundation.environment !== null, environment)
    const [auto, kaniko] = [await madeBy(on, packaged, 'auto'), await madeBy(on, packaged, 'kaniko')]
    for (const path of Object.keys(files)) assert.ok(auto.files.has(`lambda/${path}`), path)
    assert.equal(differences(auto, kaniko), [])
    assert.equal({ ...auto.config, layers: 0 }, { ...kaniko.config, layers: 0 })
    assert.equal([auto.config['WorkingDir'], auto.config['Entrypoint'], auto.config['Cmd']], ['/lambda', ['python3', 'run.py'], undefined])
  })
}

test('every way is looked at here', () => assert.equal([...imageBuilders], ['auto', 'kaniko']))

function differences(auto: ImageContent, kaniko: ImageContent): string[] {
  const paths = [...new Set([...auto.files.keys(), ...kaniko.files.keys()])].sort()
  return paths.filter((path) => auto.files.get(path) !== kaniko.files.get(path)).map((path) => `${path}: auto ${auto.files.get(path) ?? 'none'}, kaniko ${kaniko.files.get(path) ?? 'none'}`)
}

test.run()

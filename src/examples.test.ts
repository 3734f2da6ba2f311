import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import ts from 'typescript';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('examples');
const root = fileURLToPath(new URL('..', import.meta.url));
const folder = path.join(root, 'examples');
const built = path.join(root, 'build', 'examples');

/** Compiles like a user's project: strict, against the package's own declarations, which `turl` leads to. */
function compile(files: readonly string[]): void {
  const program = ts.createProgram(files, {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
    strict: true,
    skipLibCheck: true,
    rootDir: folder,
    outDir: built,
  });
  const result = program.emit();
  const problems = [...ts.getPreEmitDiagnostics(program), ...result.diagnostics];
  const host = {
    getCanonicalFileName: (f: string) => f,
    getCurrentDirectory: () => root,
    getNewLine: () => '\n',
  };
  assert.is(problems.length, 0, ts.formatDiagnostics(problems, host));
}

test('the examples compile against the package, and the small network learns', () => {
  const files = readdirSync(folder).filter((file) => file.endsWith('.ts'));
  assert.ok(files.includes('train-small.ts'));
  compile(files.map((file) => path.join(folder, file)));
  const run = () =>
    execFileSync(process.execPath, [path.join(built, 'train-small.js')], { cwd: root, encoding: 'utf8' });
  const printed = run();
  const accuracy = Number(/accuracy on new points: (\d\.\d+)/.exec(printed)?.[1]);
  // Guessing gives 1/3. Every point lies between two it was trained on, so a network that learned misses next to none.
  assert.ok(accuracy >= 0.97, `accuracy ${accuracy}; it printed: ${printed}`);
  assert.is(run(), printed); // the same seed, the same bits
});

test.run();

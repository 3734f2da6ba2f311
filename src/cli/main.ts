// The command line. Each command is a file of its own that parses, calls one library function and prints. Exit codes: 0 done,
// 1 an unexpected error, 2 something the user can mend.
import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import pc from 'picocolors';
import { UserError } from '../tensor/errors.js';
import { ablateCommand } from './ablate.js';
import { benchCommand } from './bench.js';
import { dataCommand } from './data.js';
import { embedCommand } from './embed.js';
import { evalCommand } from './eval.js';
import { exportCommand } from './export.js';
import { importCommand } from './import.js';
import { infoCommand } from './info.js';
import { mineCommand } from './mine.js';
import { reportCommand } from './report.js';
import { trainCommand } from './train.js';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** The command, and those below it, with the settings of `parent`. */
function inheriting(parent: Command, command: Command): Command {
  command.copyInheritedSettings(parent);
  for (const below of command.commands) inheriting(command, below);
  return command;
}

/** Runs `args` (without node and the script) and gives the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const program = new Command('turl')
    .description('Universal face representations: train, evaluate and look at them.')
    .version(version, '--version')
    .configureOutput({ outputError: (text, write) => write(withMark(text.replace(/^error: /, ''))) })
    .exitOverride()
    // An option behind the name of a command is that command's, even if one before it has the same.
    .enablePositionalOptions()
    .showHelpAfterError('(turl --help lists the commands, turl COMMAND --help the options)');
  const commands = [
    trainCommand(),
    evalCommand(),
    embedCommand(),
    exportCommand(),
    importCommand(),
    ablateCommand(),
    benchCommand(),
    mineCommand(),
    reportCommand(),
    dataCommand(),
    infoCommand(),
  ];
  for (const command of commands) program.addCommand(inheriting(program, command));
  try {
    await program.parseAsync([...args], { from: 'user' });
    return 0;
  } catch (error) {
    return report(error);
  }
}

// Where the sentence is read by a program, a log of continuous integration among them, it is plain.
const { red } = pc.createColors(process.stderr.isTTY ? pc.isColorSupported : false);
const withMark = (text: string) => `${red('turl:')} ${text}`;

/** Tells the user about an error and gives the exit code. */
export function report(
  error: unknown,
  write: (text: string) => unknown = (text) => process.stderr.write(text),
): number {
  // Commander has said what there is to say; asking for help or the version is no error.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof UserError) {
    write(`${withMark(error.message)}\n`);
    return 2;
  }
  const message = error instanceof Error ? error.message : String(error);
  write(
    `${withMark(`unexpected error: ${message}`)}\nThis is a fault of turl: please report it with the command you ran ` +
      'and what TURL_DEBUG=1 adds to this message.\n',
  );
  if (process.env['TURL_DEBUG'] && error instanceof Error) write(`${error.stack}\n`);
  return 1;
}

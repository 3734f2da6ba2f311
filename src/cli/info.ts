// turl info: what is here to compute with.
import { Command } from 'commander';
import Table from 'cli-table3';
import prettyBytes from 'pretty-bytes';

export function infoCommand(): Command {
  return new Command('info')
    .description('Print devices, versions, and why CUDA is or is not usable.')
    .option('--json', 'print it as JSON')
    .action(async ({ json }: { json?: true }) => {
      const { deviceReport, machine, versions } = await import('../train/environment.js');
      const { deviceNames } = await import('../tensor/index.js');
      const facts = { ...versions(), machine: machine(), devices: deviceNames.map(deviceReport) };
      if (json) {
        console.log(JSON.stringify(facts, null, 2));
        return;
      }
      const { turl, node, system, commit } = facts;
      console.log(
        `turl ${turl}${commit === null ? '' : ` (commit ${commit.replace(/^(.{12})[0-9a-f]*/, '$1')})`}, Node ${node}, ${system}`,
      );
      console.log(
        `${facts.machine.cpu}, ${facts.machine.cores} cores, ${prettyBytes(facts.machine.memory, { binary: true })}`,
      );
      const table = new Table({
        head: ['device', 'usable', 'memory', 'threads', 'what it is, or why it cannot be used'],
        style: { head: [], border: [] },
        wordWrap: true,
        colWidths: [null, null, null, null, 70],
      });
      for (const { name, usable, memory, threads, description } of facts.devices)
        table.push([
          name,
          usable ? 'yes' : 'no',
          memory === undefined ? '' : prettyBytes(memory, { binary: true }),
          threads ?? '',
          description,
        ]);
      console.log(table.toString());
    });
}

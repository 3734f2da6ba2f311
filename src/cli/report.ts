// turl report: runs and sweeps as a page of pictures.
import { Command } from 'commander';

export function reportCommand(): Command {
  return new Command('report')
    .description('Write a page (HTML, nothing to fetch) and single pictures (SVG, PNG) of runs and sweeps.')
    .argument('<run|results...>', 'run directories, or folders of results that turl ablate made')
    .option('--out <dir>', 'where the report goes', 'report')
    .action(async (paths: string[], { out }: { out: string }) => {
      const { writeReport } = await import('../report/index.js');
      const { page, pictures } = await writeReport(paths, out);
      console.log(`${page}, and ${pictures.length} pictures in ${out}/pictures`);
    });
}

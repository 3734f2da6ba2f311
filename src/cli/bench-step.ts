import { Command } from 'commander';
export function stepCommand(): Command {
  return new Command('step');
}

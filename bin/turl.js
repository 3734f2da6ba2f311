#!/usr/bin/env node
import { main, report } from '../dist/cli/main.js';
import { watchStreams } from '../dist/cli/streams.js';

watchStreams((error) => process.exit(report(error)));
process.exitCode = await main(process.argv.slice(2));

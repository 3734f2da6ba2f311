/** Names on stderr the first images that could not be used, and says how many more there are. */
export function warnLeftOut(broken: readonly { readonly file: string; readonly reason: string }[]): void {
  for (const { file, reason } of broken.slice(0, 5)) console.warn(`left out: ${file}: ${reason}`);
  if (broken.length > 5) console.warn(`left out: ${broken.length - 5} more`);
}

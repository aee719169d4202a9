/** The stories of subscriptions in 200 orders. */
process.env.PURSER_STORY_SEEDS = '200';
await import('./subscriptions.test.ts');

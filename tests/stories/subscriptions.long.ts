/** The stories of subscriptions in 200 orders; about an hour. */
process.env.PURSER_STORY_SEEDS = '200';
await import('./subscriptions.test.ts');

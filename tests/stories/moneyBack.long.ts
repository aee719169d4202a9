import { afterAll, beforeAll, describe, it } from '@jest/globals';
import { testDatabase } from '../support/postgres.ts';
import { MONEY_BACK_STORIES } from './moneyBackStories.ts';
import { openStage, type StoryStage } from './storyWorld.ts';

/** The same stories by 200 seeds, in the three forms by turns; about an hour and a half. */
const SEEDS = Array.from({ length: 200 }, (_, n) => n + 1);
const FORMS = ['new', 'old', 'thin'] as const;

const database = testDatabase();
let stage: StoryStage;
beforeAll(async () => {
  stage = await openStage(database.current);
});
afterAll(() => stage.stop());

describe.each(Object.entries(MONEY_BACK_STORIES))('%s', (_name, story) => {
  it.each(SEEDS)(
    'shuffled and doubled by seed %i',
    async (seed) => {
      await story(stage.world({ form: FORMS[seed % FORMS.length] ?? 'new', seed }));
    },
    120_000,
  );
});

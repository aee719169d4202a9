/** Half an hour. */
import { MONEY_BACK_STORIES } from './moneyBackStories.ts';
import { LONG_TELLINGS, tellStories } from './tellStories.ts';

tellStories(MONEY_BACK_STORIES, LONG_TELLINGS);

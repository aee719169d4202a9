/** A quarter of an hour. */
import { CHECKOUT_STORIES } from './checkoutStories.ts';
import { LONG_TELLINGS, tellStories } from './tellStories.ts';

tellStories(CHECKOUT_STORIES, LONG_TELLINGS);

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import express, { type IRouter, type RequestHandler } from 'express';
import { PurserError } from '../../core/errors.ts';
import type { AppDeps } from '../deps.ts';
import { createOpenApiDocument } from '../openapi.ts';
import { routes } from '../routes/index.ts';
import { docsPage } from './docsPage.ts';
import { homePage, notFoundPage } from './plainPages.ts';
import { isErrorCode, problemIndexPage, problemPage } from './problemPages.ts';
import { stylesheet } from './stylesheet.ts';

/** Paths of the web app; it routes by itself, so all of them are its one document. */
const WEB_PAGES = ['/', '/pricing', '/success', '/account', '/claim'];

/** Pages change with a release only; browsers ask again, which costs a 304. */
const REVALIDATE = 'public, max-age=0, must-revalidate';

function text(type: string, make: () => string, status = 200): RequestHandler {
  return (_request, response) => {
    response.setHeader('Cache-Control', REVALIDATE);
    response.status(status).type(type).send(make());
  };
}

function lazily<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** The reference and what errors mean: server-rendered, without scripts. */
export function mountReference(router: IRouter, { publicUrl }: Pick<AppDeps, 'publicUrl'>): void {
  // Made on the first request: only then is the address of a free port known.
  const document = lazily(() =>
    createOpenApiDocument(
      routes.map(({ contract }) => contract),
      publicUrl(),
    ),
  );
  const json = lazily(() => JSON.stringify(document(), null, 2));
  const docs = lazily(() => docsPage(document()));

  router.get('/api/openapi.json', text('application/json', json));
  router.get('/api/docs', text('html', docs));
  router.get(
    '/api/docs/style.css',
    text('css', () => stylesheet),
  );
  router.get('/problems', text('html', problemIndexPage));
  router.get('/problems/:code', (request, response, next) => {
    const { code } = request.params;
    if (!isErrorCode(code)) return next();
    text('html', () => problemPage(code))(request, response, next);
  });
}

/** The built web pages, or a page that says how to build them. Never shadows the API. */
export function mountWeb(router: IRouter, { staticDir }: Pick<AppDeps, 'staticDir'>): void {
  if (staticDir === undefined || !existsSync(join(staticDir, 'index.html'))) {
    router.get(
      '/',
      text('html', () => homePage),
    );
    return;
  }
  router.get(WEB_PAGES, (_request, response, next) => {
    response.setHeader('Cache-Control', 'no-cache');
    response.sendFile('index.html', { root: staticDir, cacheControl: false }, (error) => {
      // On success there is nothing left to do: another handler would answer a second time.
      if (error) next(error);
    });
  });
  // Source maps are for the developer's disk.
  router.get(/\.map$/, (_request, _response, next) => next('router'));
  // Names of assets hold a hash of their content, so what is kept can never be out of date.
  router.use('/assets', express.static(join(staticDir, 'assets'), { ...FILES, ...FOR_EVER }));
  router.use(
    express.static(staticDir, {
      ...FILES,
      setHeaders: (response) => response.setHeader('Cache-Control', 'no-cache'),
    }),
  );
}

const FILES = { index: false, redirect: false, dotfiles: 'ignore' } as const;
const FOR_EVER = { immutable: true, maxAge: '365d' } as const;

/** Whatever no route took: a problem for programs; for people the web app's own page, or a plain one. */
export function nothingHere({ staticDir }: Pick<AppDeps, 'staticDir'>): RequestHandler {
  const index = staticDir === undefined ? '' : join(staticDir, 'index.html');
  const html = lazily(() => (existsSync(index) ? readFileSync(index, 'utf8') : notFoundPage));
  return (request, response) => {
    const forPeople =
      !/^\/api(?:[/?]|$)/.test(request.originalUrl) && request.accepts(['json', 'html']);
    if (forPeople === 'html' && (request.method === 'GET' || request.method === 'HEAD')) {
      response.setHeader('Cache-Control', 'no-cache');
      response.status(404).type('html').send(html());
      return;
    }
    throw new PurserError('not_found', {
      detail: 'There is nothing at this path. /api/docs lists every route.',
    });
  };
}
